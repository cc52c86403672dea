"""The precision that a stage asks for is the one that upstream trains in, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from pipeline.config.references import Places
from pipeline.config.stage import StageContext
from pipeline.errors import PosttrainError
from pipeline.models.load import device
from pipeline.stages.sft import SftConfig
from pipeline.training.arguments import arguments
from pipeline.training.precision import autocast_of


def arguments_of(folder: Path, precision: str, **given: Any) -> TrainingArguments:
    data = [{"task": "arithmetic"}]
    config = SftConfig.model_validate(
        {"stage": "sft", "model": "m", "data": data, "precision": precision, "training_args": given}
    )
    context = StageContext(
        "sft",
        folder,
        folder,
        {},
        0,
        Places(folder),
        lambda *_: None,
        lambda: False,
        lambda *_: None,
    )
    return arguments(TrainingArguments, config, context, defaults={})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_what_autocast_computes_in_on_this_machine(precision: str, tmp_path: Path) -> None:
    """On a CPU too, where upstream wants to be told that it is one."""
    args = arguments_of(tmp_path, precision)
    ones = torch.ones(2, 2, device=args.device)
    with autocast_of(args)():
        found = (ones @ ones).dtype
    assert found == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert args.device.type == device().type


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    """Upstream would train in fp32 and say fp16."""
    with pytest.raises(PosttrainError, match="`precision` fp16 needs a GPU"):
        arguments_of(tmp_path, "fp16", use_cpu=True)


@pytest.mark.parametrize(("precision", "other"), [("fp32", "bf16"), ("fp32", "fp16")])
def test_another_precision_of_accelerates_own_configuration_is_refused(
    precision: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be trained in, and the artifact say another."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", other)
    with pytest.raises(PosttrainError, match=f"told to train in {other}, not {precision}"):
        arguments_of(tmp_path, precision)
