"""Every stage that trains: two processes end where one does, and go on where they were stopped."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kills import hashes
from tests.together import command, difference, metrics, train_together
from tests.trained import Trained

pytestmark = pytest.mark.slow
# Stage, rows of a forward pass: 2 of each process's 4 rows of a step, or all of them at once.
STAGES = [
    ("base", 2),
    ("base", 4),
    ("sft", 4),
    ("more_lora", 2),
    ("sft_lora", 2),
    ("rm", 2),
    ("rm", 4),
    ("rm_lora", 2),
    ("dpo", 2),
    ("dpo", 4),
    ("dpo_lora", 2),
    ("dpo_again", 2),
    ("kto", 2),
    ("kto", 4),
    ("kto_lora", 2),
]
# Of a step: not of an average over forward passes, which depend on how the batch is split.
_SAME = ("step", "epoch", "learning_rate", "loss", "grad_norm", "num_tokens")


@pytest.mark.parametrize(("stage", "per_device"), STAGES)
def test_two_processes_end_where_one_does(
    stage: str, per_device: int, trained: Trained, tmp_path: Path
) -> None:
    recipe, one = trained.recipe, trained.runs
    two = trained.without(stage, tmp_path / "two")
    train_together(recipe, two, stage, per_device=per_device)
    assert difference(one, two, stage) <= 1e-5
    lines = [metrics(runs, stage) for runs in (one, two)]
    for name in (name for name in _SAME if name in lines[0][0]):
        values = [[line[name] for line in each] for each in lines]
        assert values[1] == pytest.approx(values[0], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(("stage", "number"), [("sft", signal.SIGKILL), ("dpo", signal.SIGTERM)])
def test_two_processes_that_are_stopped_go_on_to_the_same_weights(
    stage: str, number: signal.Signals, trained: Trained, tmp_path: Path
) -> None:
    """SIGKILL takes the runner; the kernel kills both processes with it."""
    recipe, one = trained.recipe, trained.runs
    whole = trained.without(stage, tmp_path / "whole")
    train_together(recipe, whole, stage)
    stopped = trained.without(stage, tmp_path / "stopped")
    sets = ("training_args.save_steps=4",)
    asked = command(recipe, stopped, stage, processes=2, per_device=2, sets=sets)
    with subprocess.Popen(asked, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as runner:
        saved = stopped / "store" / ".working"
        while not list(saved.glob("*/checkpoints/checkpoint-4/MANIFEST.json")):
            assert runner.poll() is None
            time.sleep(0.02)
        runner.send_signal(number)
    assert runner.returncode == (130 if number == signal.SIGTERM else -number)
    said = train_together(recipe, stopped, stage, *sets)  # which waits for the lock
    assert "resumes from checkpoint-" in said
    assert hashes(stopped, stage) == hashes(whole, stage)
    assert difference(one, stopped, stage) <= 1e-5
