"""Each sign on numbers: it shows where it should, once, and a training that stays shows none."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from pipeline.rl.guards import Guards, GuardState
from pipeline.rl.signs import (
    FIRST_SEEN,
    SIGN_NAMES,
    SIGNS,
    Shown,
    bounds_of,
    describe_sign,
    shown_in,
)

ROLLOUTS = 40
ALL: dict[str, Any] = {
    name: True if sign.default is not None else {"kl": 20.0}.get(name, 0.2)
    for name, sign in SIGNS.items()
}
USUAL = {
    "completions/length_mean": 40.0,
    "objective/entropy": 1.0,
    "objective/kl": 2.0,
    "objective/scores": 0.5,
    "objective/scores_std": 0.4,
    "gold/mean": 0.5,
}
TEXTS = {"repetition": 0.05, "cut_off": 0.02, "equal_answers": 0.1, "distinct": 0.9}
NOISE = {name: 0.03 * max(abs(value), 0.3) for name, value in {**USUAL, **TEXTS}.items()}


def _watched(
    seed: int, *, held_out: tuple[str, ...] = (), stop_when: Any = None, **ends: float
) -> tuple[list[Shown], list[dict[str, float]], GuardState]:
    """Watch numbers that stay, but for those that go from the middle on to where they end."""
    generator = np.random.default_rng(seed)
    guards = Guards(ALL if stop_when is None else stop_when, held_out=held_out)
    state, shown, lines = GuardState(), list[Shown](), list[dict[str, float]]()
    for rollout in range(ROLLOUTS):
        far = min(max(0.0, (rollout - ROLLOUTS / 2) / 5), 1.0)
        numbers = {
            name: value
            + far * (ends.get(name, value) - value)
            + NOISE[name] * generator.standard_normal()
            for name, value in {**USUAL, **TEXTS}.items()
        }
        texts: Any = {name: numbers.pop(name) for name in TEXTS}
        logged, new = guards.look(state, numbers, texts)
        lines.append({**numbers, **logged})
        shown += new
    return shown, lines, state


@pytest.mark.parametrize("seed", range(40))
def test_what_stays_shows_no_sign(seed: int) -> None:
    shown, _, state = _watched(seed)
    assert shown == []
    assert state.stopped_by is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sign", "ends"),
    [
        ("length", {"completions/length_mean": 80.0}),
        ("length", {"completions/length_mean": 20.0}),
        ("repetition", {"repetition": 0.5}),
        ("cut_off", {"cut_off": 0.6}),
        ("score_jump", {"objective/scores": 2.0, "gold/mean": 0.5}),
        ("over_optimised", {"objective/scores": 0.7, "gold/mean": 0.3}),
        ("equal_answers", {"equal_answers": 0.7}),
        ("entropy", {"objective/entropy": 0.1}),
        ("distinct", {"distinct": 0.1}),
        ("kl", {"objective/kl": 40.0}),
    ],
)
def test_a_sign_shows_once_after_what_it_is_told_by_moved(
    sign: str, ends: dict[str, float], seed: int
) -> None:
    shown, lines, state = _watched(seed, **ends)
    assert [each.sign for each in shown] == [sign]
    (found,) = shown
    assert ROLLOUTS / 2 < found.rollout < ROLLOUTS
    assert found.rollout >= FIRST_SEEN[found.sign] - 1
    assert found.began <= found.rollout
    assert found.stops
    assert state.stopped_by == asdict(found)
    assert lines[found.rollout]["guards/stopped"] == 1
    assert [list(shown_in(line)) for line in lines if list(shown_in(line))] == [shown]
    assert f"{found.now:.3g}" in describe_sign(found)


def test_one_noisy_rollout_shows_nothing() -> None:
    guards, state = Guards(ALL), GuardState()
    for rollout in range(ROLLOUTS):
        is_odd = rollout == 20
        numbers = {
            name: value * (1 + 0.01 * (rollout % 3)) * (3 if is_odd else 1)
            for name, value in USUAL.items()
        }
        texts: Any = {name: 1.0 if is_odd else value for name, value in TEXTS.items()}
        assert guards.look(state, numbers, texts)[1] == []


def test_a_held_out_reward_that_falls_while_the_score_rises_is_named() -> None:
    generator = np.random.default_rng(0)
    guards, state = Guards({"over_optimised": True}, held_out=("judge",)), GuardState()
    shown: list[Shown] = []
    for rollout in range(60):
        noise = 0.1 * generator.standard_normal(2)
        held_out = rollout if rollout < 30 else 60 - rollout
        numbers = {
            "objective/scores": rollout / 10 + noise[0],
            "rewards/judge/mean": held_out / 30 + noise[1],
        }
        shown += guards.look(state, numbers, {})[1]
    assert [(each.sign, each.of) for each in shown] == [("over_optimised", "judge")]
    assert shown[0].rollout > 30
    assert "the held-out `judge`" in describe_sign(shown[0])
    assert list(shown_in(shown[0].metrics())) == shown


def test_signs_without_a_default_are_measured_and_show_only_beyond_a_bound_of_the_users() -> None:
    ends = {"objective/entropy": 0.01, "distinct": 0.0, "objective/kl": 400.0}
    shown, lines, _ = _watched(0, stop_when={}, **ends)
    assert shown == []
    assert {"guards/entropy", "guards/distinct", "guards/kl"} <= set(lines[-1])
    assert lines[-1]["guards/entropy"] < 0.1


def test_without_stop_when_signs_show_and_stop_nothing() -> None:
    shown, lines, state = _watched(0, stop_when={}, repetition=0.6)
    assert [each.sign for each in shown] == ["repetition"]
    assert not shown[0].stops
    assert state.stopped_by is None
    assert not any("guards/stopped" in line for line in lines)


def test_a_state_that_went_through_json_goes_on_to_the_same_signs() -> None:
    straight, lines, _ = _watched(1, repetition=0.6)
    guards, state, shown = Guards(ALL), GuardState(), list[Shown]()
    for line in lines:
        state = GuardState(**json.loads(json.dumps(asdict(state))))
        numbers = {name: line[name] for name in USUAL}
        texts: Any = {name: line[f"guards/{name}"] for name in TEXTS}
        shown += guards.look(state, numbers, texts)[1]
    assert shown == straight


def test_what_is_not_measured_in_some_rollouts_is_left_out() -> None:
    guards, state = Guards(ALL), GuardState()
    for rollout in range(ROLLOUTS):
        numbers = {name: value + rollout / 1000 for name, value in USUAL.items()}
        if rollout % 2:
            del numbers["gold/mean"]
        guards.look(state, numbers, {"repetition": None} if rollout % 3 else {"repetition": 0.0})
    assert {len(series) for series in state.measured.values()} == {ROLLOUTS}
    assert len(state.known("repetition")) == 14


@pytest.mark.parametrize(
    ("stop_when", "message"),
    [
        ({"lenght": True}, "`lenght` is no sign"),
        ({"length": False}, "write true, or a number"),
        ({"length": "2"}, "write true, or a number"),
        ({"length": 1.0}, "write a factor above 1"),
        ({"repetition": 1.5}, "write a share above 0, up to 1"),
        ({"cut_off": 0}, "write a share above 0, up to 1"),
        ({"entropy": 1}, "between 0 and 1"),
        ({"score_jump": -1}, "write a number above 0"),
        ({"over_optimised": -0.1}, "write a number 0 or above"),
        ({"kl": True}, "write a number of nats a response"),
        ({"kl": float("nan")}, "write a number above 0"),
    ],
)
def test_a_bound_that_cannot_be_meant_is_refused(stop_when: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bounds_of(stop_when)


def test_true_is_the_default_and_numbers_are_taken() -> None:
    assert bounds_of({"length": True, "kl": 30, "over_optimised": 0, "cut_off": 1}) == {
        "length": 1.5,
        "kl": 30.0,
        "over_optimised": 0.0,
        "cut_off": 1.0,
    }
    assert set(SIGNS) == set(SIGN_NAMES) == set(FIRST_SEEN)
