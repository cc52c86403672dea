"""Every stage whose model processes can split: it ends where one process does."""

import json
import signal
from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import hashes
from tests.sharded_runs import (
    ADAPTERS,
    SAVE,
    Split,
    assert_same_training,
    changes_of,
    of_one_process,
)
from tests.together import difference
from tests.trained import Trained

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]
SPLIT = Split()


@pytest.mark.parametrize("stage", ["base", "sft", "rm", "dpo", "kto", *ADAPTERS])
def test_two_processes_that_split_a_model_end_where_one_does(
    stage: str, trained: Trained, tmp_path: Path
) -> None:
    warm()
    changes = changes_of(stage)
    one = of_one_process(trained, tmp_path / "one", stage, changes)
    two = trained.without(stage, tmp_path / "two")
    SPLIT.run(trained, two, stage, *changes)
    assert_same_training(one, two, stage)


@pytest.mark.parametrize(
    ("stage", "option"),
    [
        *((stage, "activation_checkpointing: true") for stage in ("base", "sft", "rm", "dpo")),
        ("sft", "offload_params: true"),
        ("dpo", "reshard_after_forward: false"),
    ],
)
def test_options_of_fsdp_change_no_result(
    stage: str, option: str, trained: Trained, tmp_path: Path
) -> None:
    """Where activations are computed again, attention has forgotten rows laid end to end."""
    warm()
    two = trained.without(stage, tmp_path / "two")
    Split(f", fsdp: {{{option}}}").run(trained, two, stage)
    assert_same_training(trained.runs, two, stage)


@pytest.mark.parametrize(
    ("stage", "number"),
    [("sft", signal.SIGKILL), ("sft_lora", signal.SIGTERM)],
)
def test_a_stage_that_is_stopped_goes_on_to_the_same_weights(
    stage: str, number: signal.Signals, trained: Trained, tmp_path: Path
) -> None:
    warm()
    whole = trained.without(stage, tmp_path / "whole")
    SPLIT.run(trained, whole, stage)
    stopped = trained.without(stage, tmp_path / "stopped")
    files = SPLIT.stop(trained, stopped, stage, number)
    assert any(name.endswith("__0_0.distcp") for name in files)  # each process wrote its part
    assert any(name.endswith("__1_0.distcp") for name in files)
    assert not any(name.endswith(".bin") for name in files)  # pickled weights
    assert "resumes from checkpoint-" in SPLIT.run(trained, stopped, stage, SAVE).output
    assert hashes(stopped, stage) == hashes(whole, stage)


def test_parts_of_two_processes_are_read_by_four(trained: Trained, tmp_path: Path) -> None:
    warm()
    stopped = trained.without("sft", tmp_path / "stopped")
    SPLIT.stop(trained, stopped, "sft", signal.SIGTERM)
    said = SPLIT.run(trained, stopped, "sft", SAVE, processes=4, resume_anyway=True).output
    assert "goes on although this changed" in said
    artifact = json.loads((stopped / "tiny" / "sft" / "artifact.json").read_text())
    assert artifact["provenance"]["exact"] is False
    assert difference(trained.runs, stopped, "sft") <= 1e-6
