"""PPO in two processes that work together (gloo) does what it does in one, response by response."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_rollouts import (
    PPO_KINDS,
    ROLLOUT,
    Run,
    difference,
    in_processes,
    only_asked_for,
    slow_unless_usual,
    trained,
)

_STEPS = 2 * ROLLOUT
_STEPS_BY_KIND = {
    **{"full": _STEPS, "lora": _STEPS, "lora_on_trained_adapter": ROLLOUT, "trunk": ROLLOUT},
    "lora_after_critic": 3 * ROLLOUT,  # whose policy is trained from the third rollout on
}
_STOP = ROLLOUT + 3
_UNSCORED_STEPS = 24  # of a rollout in eight mini-batches
_STATE = ("weights", "moments", "kl", "rewards", "lines", "samples")
# Low, as Adam makes steps of this size even of rounding errors.
_RATE = {"learning_rate": 2e-3, "critic_learning_rate": 2e-3}
_HALF = {**_RATE, "per_device_train_batch_size": 2}
_PARTS = {**_RATE, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
# The term of weight 0 scores nothing, the other one some rows: most steps of an epoch have two,
# some have one, which one of the processes then trains on.
_UNSCORED = {**_RATE, "reward_weights": [0.0, 0.3], "num_mini_batches": 8}
_UNSCORED |= {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 2}
_ALL_AT_ONCE = {**_RATE, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}

Ends = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What both processes have at the end of each run that is asked for, and of some more."""
    folder = tmp_path_factory.mktemp("processes")

    def run(name: str, **changes: Any) -> Run:
        given = {"kind": name, "folder": str(folder / name), "stops_at": _STEPS, "settings": _HALF}
        return Run(**{**given, "processes": 2, **changes})

    begun = run("begun", kind="full", stops_at=_STOP)
    runs = {
        **{kind: run(kind, stops_at=steps) for kind, steps in _STEPS_BY_KIND.items()},
        "parts": run("parts", kind="full", stops_at=ROLLOUT, settings=_PARTS),
        "unscored": run(
            "unscored",
            kind="full",
            stops_at=_UNSCORED_STEPS,
            settings={**_UNSCORED, "per_device_train_batch_size": 1},
        ),
        "begun": begun,
        "resumed": replace(begun, goes_on_from=begun.checkpoint, stops_at=_STEPS),
        "one_prompt": run("one_prompt", kind="full", stops_at=1, num_prompts=1),
    }
    always = ("full", "parts", "unscored", "begun", "resumed", "one_prompt")
    runs = only_asked_for(request, runs, always)
    return dict(zip(runs, in_processes(folder / "work", list(runs.values())), strict=True))


@pytest.mark.parametrize("kind", slow_unless_usual(PPO_KINDS, ("full", "lora")))
def test_two_processes_end_where_one_does(kind: str, ends: Ends, tmp_path: Path) -> None:
    """B48, B49: rows of uneven lengths, whitened and logged over both processes."""
    run = Run(kind, str(tmp_path), stops_at=_STEPS_BY_KIND[kind], settings=_RATE)
    alone = trained(run)
    together = ends[kind][0]
    gaps = {name: difference(alone[name], together[name]) for name in _STATE}
    assert (alone["world_size"], together["world_size"]) == (1, 2)
    assert together["samples"] == alone["samples"]
    assert gaps["weights"] <= 1e-6
    assert max(gaps[name] for name in ("moments", "kl", "rewards")) <= 1e-5
    assert gaps["lines"] <= 1e-4  # norms of several


def test_a_split_into_processes_and_passes_changes_nothing(ends: Ends, tmp_path: Path) -> None:
    """B19: four passes of one row in two processes, or one pass of eight rows."""
    alone = trained(Run("full", str(tmp_path), stops_at=ROLLOUT, settings=_ALL_AT_ONCE))
    assert difference(alone["weights"], ends["parts"][0]["weights"]) <= 1e-6
    assert alone["samples"] == ends["parts"][0]["samples"]


def test_a_process_may_have_nothing_to_train_on_in_a_step(ends: Ends, tmp_path: Path) -> None:
    """Responses without a reward are trained on by nobody."""
    alone = trained(Run("full", str(tmp_path), stops_at=_UNSCORED_STEPS, settings=_UNSCORED))
    together = ends["unscored"][0]
    assert 0 < alone["lines"][0]["rewards/unscored"] < 8
    assert together["samples"] == alone["samples"]
    assert difference(together["weights"], alone["weights"]) <= 1e-6
    assert difference(together["lines"], alone["lines"]) <= 1e-4


def test_both_processes_have_the_same_to_the_bit(ends: Ends) -> None:
    for name, (first, second) in ends.items():
        assert {part: difference(first[part], second[part]) for part in _STATE} == dict.fromkeys(
            _STATE, 0.0
        ), name


def test_two_processes_go_on_where_two_were_stopped(ends: Ends) -> None:
    """B34: both take up the rollout that they were in."""
    whole, resumed = ends["full"][0], ends["resumed"][0]
    assert list(resumed["samples"]) == []
    state = _STATE[:-1]
    assert {part: difference(whole[part], resumed[part]) for part in state} == dict.fromkeys(
        state, 0.0
    )


def test_processes_answer_the_same_prompt_differently(ends: Ends) -> None:
    """B58: eight rows of each process, all of one prompt."""
    rows = ends["one_prompt"][0]["samples"][0]
    assert {prompt for _, prompt, _ in rows} == {0}
    first, second = ([ids for number, _, ids in rows if number % 2 == rank] for rank in (0, 1))
    assert sum(one != other for one, other in zip(first, second, strict=True)) >= 7
