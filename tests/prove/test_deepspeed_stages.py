"""Every stage whose model DeepSpeed can split: it ends where one process does."""

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
from tests.trained import Trained

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: make prove-deepspeed")
pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]
# Else models as small as these are left whole by stage 3.
_ALL = "stage3_param_persistence_threshold: 0, stage3_model_persistence_threshold: 0"
SPLITS = {
    2: Split(", deepspeed: {zero_optimization: {stage: 2}}"),
    3: Split(f", deepspeed: {{zero_optimization: {{stage: 3, {_ALL}}}}}"),
}


@pytest.mark.parametrize("zero", SPLITS)
@pytest.mark.parametrize("stage", ["base", "sft", "rm", "dpo", "kto", *ADAPTERS])
def test_two_processes_under_deepspeed_end_where_one_does(
    stage: str, zero: int, trained: Trained, tmp_path: Path
) -> None:
    warm()
    changes = changes_of(stage)
    one = of_one_process(trained, tmp_path / "one", stage, changes)
    two = trained.without(stage, tmp_path / "two")
    SPLITS[zero].run(trained, two, stage, *changes)
    assert_same_training(one, two, stage)


@pytest.mark.parametrize(
    ("stage", "zero", "number"),
    [("sft", 3, signal.SIGKILL), ("sft_lora", 2, signal.SIGTERM), ("dpo", 3, signal.SIGTERM)],
)
def test_a_stage_that_is_stopped_under_deepspeed_goes_on_to_the_same_weights(
    stage: str, zero: int, number: signal.Signals, trained: Trained, tmp_path: Path
) -> None:
    warm()
    whole = trained.without(stage, tmp_path / "whole")
    SPLITS[zero].run(trained, whole, stage)
    stopped = trained.without(stage, tmp_path / "stopped")
    SPLITS[zero].stop(trained, stopped, stage, number)
    assert "resumes from checkpoint-" in SPLITS[zero].run(trained, stopped, stage, SAVE).output
    assert hashes(stopped, stage) == hashes(whole, stage)
