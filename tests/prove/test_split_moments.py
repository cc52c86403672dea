"""Stages that sample, in two processes of which each keeps half of Adam's moments.

They end where one process does, and a stopped one goes on to the same weights.
"""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Ended, run_forked, warm
from tests.forked_ranks import fork_ranks, split_over
from tests.kills import hashes
from tests.stages import test_group_kills, test_ppo_kills
from tests.together import difference, metrics, world_size

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]
SAVE = "training_args.save_steps=3"
# Stage, and how many responses each of two processes takes at once, for the same step as one's.
PPO, GROUPS = {"full": 1, "lora": 1}, {"grpo": 2, "gspo": 2, "rloo": 2, "distill": 2}


def prepared(folder: Path, stage: str) -> tuple[Path, Path, int]:
    """Train what a stage begins with; return the recipe, the store, the rows of a process."""
    kind: Any = test_ppo_kills if stage in PPO else test_group_kills
    made = kind.prepare(folder)
    return made.recipe, made.runs, {**PPO, **GROUPS}[stage]


def run(recipe: Path, runs: Path, stage: str, rows: int, **more: Any) -> Ended:
    """Train a stage in two processes that split its moments."""
    device = f"training_args.per_device_train_batch_size={rows}"
    asked = split_over(stage, SAVE, device)
    return run_forked(recipe, runs, overrides=asked, only=stage, first=fork_ranks, **more)


def copy(runs: Path, to: Path) -> Path:
    """Return a copy of a store."""
    return shutil.copytree(runs, to, symlinks=True)


def is_stopped_in(runs: Path) -> Callable[[float], bool]:
    """Return whether the stage of a store that runs has a checkpoint of its sixth step."""

    def has_checkpoint(_: float) -> bool:
        found = runs.glob("store/.working/*/checkpoints/checkpoint-6/MANIFEST.json")
        return any(True for _ in found)

    return has_checkpoint


@pytest.mark.parametrize("stage", [*PPO, *GROUPS])
def test_two_processes_that_split_moments_end_where_one_does(stage: str, tmp_path: Path) -> None:
    warm()
    recipe, runs, rows = prepared(tmp_path, stage)
    one, two = copy(runs, tmp_path / "one"), copy(runs, tmp_path / "two")
    alone = run_forked(recipe, one, overrides=[f"stages.{stage}.{SAVE}"], only=stage)
    assert alone.code == 0, alone.output
    together = run(recipe, two, stage, rows)
    assert together.code == 0, together.output
    assert world_size(two, stage) == 2
    assert difference(one, two, stage) <= 1e-6
    lines = [metrics(each, stage) for each in (one, two)]
    assert [line.keys() for line in lines[0]] == [line.keys() for line in lines[1]]
    for name in (name for name in lines[0][0] if "loss" in name or name == "grad_norm"):
        values = [[line[name] for line in each] for each in lines]
        assert values[1] == pytest.approx(values[0], abs=1e-5), name


@pytest.mark.parametrize(("stage", "number"), [("full", signal.SIGKILL), ("grpo", signal.SIGTERM)])
def test_a_stage_that_is_stopped_goes_on_to_the_same_weights(
    stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    warm()
    recipe, runs, rows = prepared(tmp_path, stage)
    whole, stopped = copy(runs, tmp_path / "whole"), copy(runs, tmp_path / "stopped")
    ended = run(recipe, whole, stage, rows)
    assert ended.code == 0, ended.output
    ended = run(recipe, stopped, stage, rows, signal_when=is_stopped_in(stopped), number=number)
    assert ended.code == (None if number == signal.SIGKILL else 130), ended.output
    [folder] = stopped.glob("store/.working/*/checkpoints/checkpoint-6")
    files = [path.name for path in folder.rglob("*")]
    assert {"__0_0.distcp", "__1_0.distcp"} <= set(files)  # each process wrote its part
    assert "optimizer.pt" not in files
    ended = run(recipe, stopped, stage, rows)
    assert ended.code == 0, ended.output
    assert "resumes from checkpoint-" in ended.output
    assert hashes(stopped, stage) == hashes(whole, stage)
