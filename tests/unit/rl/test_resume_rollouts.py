"""A run of any method, stopped and going on in a fresh trainer, ends as it would have, exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_rollouts import (
    GROUP_KINDS,
    KINDS,
    PPO_KINDS,
    ROLLOUT,
    STEPS,
    Run,
    difference,
    in_processes,
    parts_of,
    slow_unless_usual,
    trained,
)

# The end of an epoch within a rollout, the middle of an epoch, the end of a rollout.
_STOPS = (8, 15, 24)
_STATE = ("weights", "moments", "kl", "rewards", "drawn", "lines")
_SAME = dict.fromkeys((*_STATE, "samples"), 0.0)


def _differences(whole: dict[str, Any], last: dict[str, Any]) -> dict[str, float]:
    """Compare two ends, and the rollouts that both have sampled."""
    samples = {number: whole["samples"][number] for number in last["samples"]}
    found = {name: difference(whole[name], last[name]) for name in _STATE}
    return {**found, "samples": difference(samples, last["samples"])}


# Each of the others has one setting that none of these has: `make prove-long` tries them all.
_USUAL = ("full", "lora", "lora_after_critic", "grpo", "rloo", "distill")


@pytest.fixture(scope="module", params=slow_unless_usual(KINDS, _USUAL))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run leaves that was never stopped, its kind with it."""
    kind = request.param
    return {"kind": kind, **trained(Run(kind, str(tmp_path_factory.mktemp(kind))))}


def test_a_run_that_is_stopped_three_times_ends_in_the_same_state(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    """B31, B32, B34, B35: both models, Adam's moments, KL controller, reward moments, all lines."""
    sampled: list[list[int]] = []
    for number, run in enumerate(parts_of(whole["kind"], tmp_path, _STOPS)):
        torch.manual_seed(100 + number)  # nothing may hang on what was drawn before
        part = trained(run)
        sampled.append(list(part["samples"]))
    assert sampled == [[0, 1], [2], [3], [4, 5]]  # in the middle of a rollout none is sampled anew
    assert _differences(whole, part) == _SAME


def test_what_is_compared_does_change_on_the_way(whole: dict[str, Any]) -> None:
    """B52: the rate ends at 0, since the schedule counts steps of the optimizer."""
    lines = whole["lines"]
    assert [line["step"] for line in lines] == list(range(ROLLOUT, STEPS + 1, ROLLOUT))
    assert len({line["completions/length_mean"] for line in lines}) > 3
    assert lines[-1]["lr"] == 0.0
    assert lines[-1]["objective/kl"] > 0.01
    # Stopped at step 15 within epochs that were cut short, in the kinds that have a bound.
    assert lines[2]["policy/cut_short"] == ("target_approx_kl" in KINDS[whole["kind"]])
    assert all(float(state["exp_avg"].abs().max()) > 0 for state in whole["moments"].values())


def test_critic_and_controller_change_on_the_way(whole: dict[str, Any]) -> None:
    lines = whole["lines"]
    if whole["kind"] not in PPO_KINDS:
        assert not [name for name in lines[0] if name.startswith(("value", "critic"))]
        return
    assert len({line["objective/kl_coef"] for line in lines}) == len(lines)
    assert whole["rewards"]["moments"]["count"] == 16 * len(lines)
    assert lines[-1]["critic_lr"] == 0.0
    assert lines[-1]["value/mean"] != 0


def test_groups_are_replaced_unscored_and_clipped_on_the_way(whole: dict[str, Any]) -> None:
    lines, kind = whole["lines"], whole["kind"]
    if kind not in GROUP_KINDS:
        return
    size = GROUP_KINDS[kind].get("num_generations", 4)
    replaced = [line.get("groups/replaced", 0.0) for line in lines]
    assert whole["drawn"] == len(lines) * 16 // size + sum(replaced)
    assert (sum(replaced) > 0) == ("dynamic_sampling" in GROUP_KINDS[kind])
    assert sum(line["rewards/unscored"] for line in lines) > 0
    assert max(line["policy/clipfrac_low"] for line in lines) > 0
    masked = [line.get("completions/masked", 0.0) for line in lines]
    assert (max(masked) > 0) == (kind == "grpo")


def test_another_process_goes_on_from_the_checkpoint_alone(tmp_path: Path) -> None:
    """B34: in the middle of an epoch."""
    stops_at, ends_at = ROLLOUT + 3, 2 * ROLLOUT
    wholes: list[dict[str, Any]] = []
    goes_on: list[Run] = []
    for kind in ("full", "lora", "grpo", "rloo"):
        begun = Run(kind, str(tmp_path / kind), stops_at=stops_at)
        trained(begun)
        goes_on.append(replace(begun, goes_on_from=begun.checkpoint, stops_at=ends_at))
        whole = replace(begun, folder=str(tmp_path / f"{kind}-whole"), stops_at=ends_at)
        wholes.append(trained(whole))
    for whole, (last,) in zip(wholes, in_processes(tmp_path / "work", goes_on), strict=True):
        assert last["samples"] == {}  # the rollout was in the checkpoint
        assert _differences(whole, last) == _SAME
