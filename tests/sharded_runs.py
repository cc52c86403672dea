"""Stages of the tiny recipe whose model two processes split, trained to their end or stopped."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forked import Ended, run_forked
from tests.forked_ranks import fork_ranks, split_over
from tests.together import difference, metrics, world_size
from tests.trained import Trained

ADAPTERS = ("more_lora", "sft_lora")
SAVE = "training_args.save_steps=4"
# Adapters have the learning rates of whole models here: at rates ten times as high Adam makes of a
# gradient's last digit, where it is near zero, more than what is allowed between two weights.
SMALL = "training_args.learning_rate=1e-4"
# Of a step: not of an average over forward passes, which depend on how the batch is split.
SAME = ("step", "epoch", "learning_rate", "loss", "grad_norm", "num_tokens")


def changes_of(stage: str) -> tuple[str, ...]:
    """Return what a stage has otherwise than in the recipe, with one process and with several."""
    return (SMALL,) if stage in ADAPTERS else ()


@dataclass(frozen=True)
class Split:
    """How a model is split: more of the `launch` block, after the number of processes."""

    more: str = ", fsdp: {}"

    def run(
        self,
        trained: Trained,
        runs: Path,
        stage: str,
        *changes: str,
        processes: int = 2,
        resume_anyway: bool = False,
    ) -> Ended:
        """Train a stage whose model so many processes split."""
        asked = split_over(stage, *changes, processes=processes, more=self.more)
        ended = run_forked(
            trained.recipe,
            runs,
            overrides=asked,
            only=stage,
            first=fork_ranks,
            resume_anyway=resume_anyway,
        )
        assert ended.code == 0, ended.output
        assert world_size(runs, stage) == processes
        return ended

    def stop(self, trained: Trained, runs: Path, stage: str, number: int) -> list[str]:
        """Stop a stage after four steps; return the names of its checkpoint's files."""

        def has_checkpoint(_: float) -> bool:
            found = runs.glob("store/.working/*/checkpoints/checkpoint-4/MANIFEST.json")
            return any(True for _ in found)

        asked = split_over(stage, SAVE, more=self.more)
        ended = run_forked(
            trained.recipe,
            runs,
            overrides=asked,
            only=stage,
            first=fork_ranks,
            signal_when=has_checkpoint,
            number=number,
        )
        assert ended.code == (None if number == signal.SIGKILL else 130), ended.output
        [folder] = runs.glob("store/.working/*/checkpoints/checkpoint-4")
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def assert_same_training(one: Path, two: Path, stage: str) -> None:
    """Assert that two runs trained a stage to the same weights, with the same logged steps."""
    assert difference(one, two, stage) <= 1e-6
    lines = [metrics(runs, stage) for runs in (one, two)]
    for name in (name for name in SAME if name in lines[0][0]):
        values = [[line[name] for line in each] for each in lines]
        # Norms add up to several; their last digits are further apart than a loss's.
        relative = 1e-5 if name == "grad_norm" else 0.0
        assert values[1] == pytest.approx(values[0], rel=relative, abs=1e-5), name


def of_one_process(trained: Trained, folder: Path, stage: str, changes: Sequence[str]) -> Path:
    """Return the runs in which one process trained a stage with such changes."""
    if not changes:
        return trained.runs
    runs = trained.without(stage, folder)
    asked = [f"stages.{stage}.{change}" for change in changes]
    ended = run_forked(trained.recipe, runs, overrides=asked, only=stage)
    assert ended.code == 0, ended.output
    return runs
