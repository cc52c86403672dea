"""Every stage whose model processes can split: it ends where one process does.

The learning rates of adapters are those of whole models here: at rates ten times as high Adam makes
of a gradient's last digit, where it is near zero, more than what is allowed between two weights.
"""

import json
import signal
from pathlib import Path

import pytest

from tests.forked import Ended, run_forked, warm
from tests.forked_ranks import fork_ranks, split_over
from tests.kills import hashes
from tests.together import difference, metrics, world_size
from tests.trained import Trained

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]
STAGES = ["base", "sft", "rm", "dpo", "kto"]
ADAPTERS = ["more_lora", "sft_lora"]
SMALL = "training_args.learning_rate=1e-4"
SAVE = "training_args.save_steps=4"
# Of a step: not of an average over forward passes, which depend on how the batch is split.
_SAME = ("step", "epoch", "learning_rate", "loss", "grad_norm", "num_tokens")


def run(
    trained: Trained,
    runs: Path,
    stage: str,
    *changes: str,
    processes: int = 2,
    resume_anyway: bool = False,
) -> Ended:
    """Train a stage whose model so many processes split."""
    ended = run_forked(
        trained.recipe,
        runs,
        overrides=split_over(stage, *changes, processes=processes),
        only=stage,
        first=fork_ranks,
        resume_anyway=resume_anyway,
    )
    assert ended.code == 0, ended.output
    assert world_size(runs, stage) == processes
    return ended


def stop(trained: Trained, runs: Path, stage: str, number: int) -> list[str]:
    """Stop a stage after four steps; return the names of its checkpoint's files."""

    def has_checkpoint(_: float) -> bool:
        found = runs.glob("store/.working/*/checkpoints/checkpoint-4/MANIFEST.json")
        return any(True for _ in found)

    asked = split_over(stage, SAVE)
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


@pytest.mark.parametrize(
    ("stage", "changes"), [(name, ()) for name in STAGES] + [(name, (SMALL,)) for name in ADAPTERS]
)
def test_two_processes_that_split_a_model_end_where_one_does(
    stage: str, changes: tuple[str, ...], trained: Trained, tmp_path: Path
) -> None:
    warm()
    one, two = trained.runs, trained.without(stage, tmp_path / "two")
    if changes:
        one = trained.without(stage, tmp_path / "one")
        asked = [f"stages.{stage}.{change}" for change in changes]
        ended = run_forked(trained.recipe, one, overrides=asked, only=stage)
        assert ended.code == 0, ended.output
    run(trained, two, stage, *changes)
    assert difference(one, two, stage) <= 1e-6
    lines = [metrics(runs, stage) for runs in (one, two)]
    for name in (name for name in _SAME if name in lines[0][0]):
        values = [[line[name] for line in each] for each in lines]
        # Norms add up to several; their last digits are further apart than a loss's.
        relative = 1e-5 if name == "grad_norm" else 0.0
        assert values[1] == pytest.approx(values[0], rel=relative, abs=1e-5), name


@pytest.mark.parametrize(
    ("stage", "number"),
    [("sft", signal.SIGKILL), ("sft_lora", signal.SIGTERM)],
)
def test_a_stage_that_is_stopped_goes_on_to_the_same_weights(
    stage: str, number: signal.Signals, trained: Trained, tmp_path: Path
) -> None:
    warm()
    whole = trained.without(stage, tmp_path / "whole")
    run(trained, whole, stage)
    stopped = trained.without(stage, tmp_path / "stopped")
    files = stop(trained, stopped, stage, number)
    assert any(name.endswith("__0_0.distcp") for name in files)  # each process wrote its part
    assert any(name.endswith("__1_0.distcp") for name in files)
    assert not any(name.endswith(".bin") for name in files)  # pickled weights
    assert "resumes from checkpoint-" in run(trained, stopped, stage, SAVE).output
    assert hashes(stopped, stage) == hashes(whole, stage)


def test_parts_of_two_processes_are_read_by_four(trained: Trained, tmp_path: Path) -> None:
    warm()
    stopped = trained.without("sft", tmp_path / "stopped")
    stop(trained, stopped, "sft", signal.SIGTERM)
    said = run(trained, stopped, "sft", SAVE, processes=4, resume_anyway=True).output
    assert "goes on although this changed" in said
    artifact = json.loads((stopped / "tiny" / "sft" / "artifact.json").read_text())
    assert artifact["provenance"]["exact"] is False
    assert difference(trained.runs, stopped, "sft") <= 1e-6
