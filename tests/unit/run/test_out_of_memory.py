"""Memory that runs out is one line of advice, not a traceback."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.stage import StageContext, StageResult
from pipeline.config.stage_config import StageConfig
from pipeline.errors import PosttrainError
from pipeline.run import worker
from pipeline.stages import stage_of
from tests.forked import Ended, run_forked

NOT_A_MACHINE = 2**50  # floats: four petabytes, beyond any address space


def _torch_on_the_cpu() -> None:
    torch.empty(NOT_A_MACHINE)


def _numpy() -> None:
    np.empty(NOT_A_MACHINE)


def _an_accelerator() -> None:
    raise torch.OutOfMemoryError("no words that say so")


def _another_error_made_of_it() -> None:
    try:
        torch.empty(NOT_A_MACHINE)
    except RuntimeError as error:
        raise PosttrainError("base", "the model cannot be made") from error


def _something_else() -> None:
    raise RuntimeError("shapes (2, 3) and (4, 5) do not fit")


@pytest.fixture
def run_failing(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs the tiny recipe up to a stage that fails, in a child."""

    def call(failing: str, fail: Callable[[], None], *overrides: str) -> Ended:
        def run(config: StageConfig, context: StageContext) -> StageResult:
            if context.name == failing:
                context.progress("step", 3, 20)
                fail()
            return stage_of(config.stage).run(config, context)

        monkeypatch.setattr(
            worker, "stage_for", lambda kind, base: replace(stage_of(kind), run=run)
        )
        return run_forked(tiny_recipe, tmp_path / "runs", overrides=overrides, until=failing)

    return call


@pytest.mark.parametrize(
    "fail", [_torch_on_the_cpu, _numpy, _an_accelerator, _another_error_made_of_it]
)
def test_it_is_one_line_that_says_where_and_what_to_do(run_failing, tmp_path: Path, fail) -> None:
    ended = run_failing("base", fail)
    assert ended.code == 3, ended.output
    assert ended.output.splitlines()[-1] == (
        "base: memory ran out at step 3 of 20; lower `training_args.per_device_train_batch_size` "
        "(8 now; the mathematics stay those of `batch_size`), or set "
        "`training_args.activation_checkpointing: true`, or shorten `sequence_length`"
    )
    assert "Traceback" not in ended.output
    log = next((tmp_path / "runs/store/.working").glob("pretrain-*/out/log.txt"))
    assert fail.__name__ in log.read_text()


def test_what_is_done_already_is_not_advised(run_failing) -> None:
    few = "{per_device_train_batch_size: 1, gradient_checkpointing: true}"
    ended = run_failing("sft", _numpy, f"stages.sft.training_args={few}")
    line = ended.output.splitlines()[-1]
    advice = "shorten `training_args.max_length`, or train an adapter with `lora:`"
    assert line == f"sft: memory ran out at step 3 of 20; {advice}"
    ended = run_failing("sft", _numpy, f"stages.sft.training_args={few}", "stages.sft.lora={r: 4}")
    assert ended.output.splitlines()[-1].endswith("; shorten `training_args.max_length`")


def test_a_stage_that_trains_nothing_gets_other_advice(run_failing) -> None:
    ended = run_failing("tokenizer", _numpy)
    assert ended.code == 3
    assert ended.output.splitlines()[-1].endswith("at step 3 of 20; give it less data")


def test_another_error_is_left_as_it_is(run_failing) -> None:
    ended = run_failing("base", _something_else)
    assert ended.code == 1
    assert ended.output.splitlines()[-1] == "RuntimeError: shapes (2, 3) and (4, 5) do not fit"
