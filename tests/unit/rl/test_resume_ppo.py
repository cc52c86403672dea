"""A PPO run that was stopped and goes on in a fresh trainer ends as it would have, to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_ppo import KINDS, ROLLOUT, STEPS, Run, difference, in_processes, trained

# The end of an epoch within a rollout, the middle of an epoch, the end of a rollout.
_STOPS = (8, 15, 24)
_STATE = ("weights", "moments", "kl", "rewards", "lines")
_SAME = dict.fromkeys((*_STATE, "samples"), 0.0)


def _parts(kind: str, folder: Path) -> list[Run]:
    """Return the runs that make up a whole one, each going on where the one before stopped."""
    parts: list[Run] = []
    for stops_at in (*_STOPS, STEPS):
        before = parts[-1].checkpoint if parts else None
        parts.append(Run(kind, str(folder / f"to-{stops_at}"), before, stops_at))
    return parts


def _differences(whole: dict[str, Any], last: dict[str, Any]) -> dict[str, float]:
    """Compare two ends, and the rollouts that both have sampled."""
    samples = {number: whole["samples"][number] for number in last["samples"]}
    found = {name: difference(whole[name], last[name]) for name in _STATE}
    return {**found, "samples": difference(samples, last["samples"])}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run leaves that was never stopped, its kind with it."""
    kind = request.param
    return {"kind": kind, **trained(Run(kind, str(tmp_path_factory.mktemp(kind))))}


def test_a_run_that_is_stopped_three_times_ends_in_the_same_state(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    """B31, B32, B34, B35: both models, Adam's moments, KL controller, reward moments, all lines."""
    sampled: list[list[int]] = []
    for number, run in enumerate(_parts(whole["kind"], tmp_path)):
        torch.manual_seed(100 + number)  # nothing may hang on what was drawn before
        part = trained(run)
        sampled.append(list(part["samples"]))
    assert sampled == [[0, 1], [2], [3], [4, 5]]  # in the middle of a rollout none is sampled anew
    assert _differences(whole, part) == _SAME


def test_what_is_compared_does_change_on_the_way(whole: dict[str, Any]) -> None:
    """B52: the rate ends at 0, since the schedule counts steps of the optimizer."""
    lines = whole["lines"]
    assert [line["step"] for line in lines] == list(range(ROLLOUT, STEPS + 1, ROLLOUT))
    assert len({line["objective/kl_coef"] for line in lines}) == len(lines)
    assert len({line["completions/length_mean"] for line in lines}) > 3
    assert whole["rewards"]["moments"]["count"] == 16 * len(lines)
    assert lines[-1]["lr"] == lines[-1]["critic_lr"] == 0.0
    # Stopped at step 15 within epochs that were cut short, in the kind that has a bound.
    assert lines[2]["policy/cut_short"] == ("target_approx_kl" in KINDS[whole["kind"]])
    assert lines[-1]["objective/kl"] > 0.01
    assert lines[-1]["value/mean"] != 0
    assert all(float(state["exp_avg"].abs().max()) > 0 for state in whole["moments"].values())


def test_another_process_goes_on_from_the_checkpoint_alone(tmp_path: Path) -> None:
    """B34: in the middle of an epoch."""
    stops_at, ends_at = ROLLOUT + 3, 2 * ROLLOUT
    wholes: list[dict[str, Any]] = []
    goes_on: list[Run] = []
    for kind in ("full", "lora"):
        begun = Run(kind, str(tmp_path / kind), stops_at=stops_at)
        trained(begun)
        goes_on.append(replace(begun, goes_on_from=begun.checkpoint, stops_at=ends_at))
        whole = replace(begun, folder=str(tmp_path / f"{kind}-whole"), stops_at=ends_at)
        wholes.append(trained(whole))
    for whole, (last,) in zip(wholes, in_processes(tmp_path / "work", goes_on, 1), strict=True):
        assert last["samples"] == {}  # the rollout was in the checkpoint
        assert _differences(whole, last) == _SAME
