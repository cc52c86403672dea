"""The batch is split for the processes that were asked for, and these must be there."""

from pathlib import Path

import pytest
from transformers import TrainingArguments

from pipeline.config.references import Places
from pipeline.config.stage import StageContext
from pipeline.config.training_stage import TrainingOnData
from pipeline.errors import InfrastructureError
from pipeline.run.progress import silent
from pipeline.training.arguments import arguments


def _context(folder: Path, processes: int) -> StageContext:
    return StageContext(
        name="base",
        out=folder,
        checkpoints=folder,
        outputs={},
        seed=0,
        places=Places(folder),
        progress=silent,
        should_stop=lambda: False,
        seal=lambda *_: None,
        processes=processes,
    )


def test_a_process_that_finds_no_other_does_not_train_alone(tmp_path: Path) -> None:
    data = {"data": [{"file": "a.txt"}]}
    config = TrainingOnData.model_validate({"stage": "pretrain", "batch_size": 8, **data})
    alone = arguments(TrainingArguments, config, _context(tmp_path, 1), defaults={})
    assert (alone.per_device_train_batch_size, alone.gradient_accumulation_steps) == (8, 1)
    with pytest.raises(InfrastructureError, match="1 of 2 processes found one another"):
        arguments(TrainingArguments, config, _context(tmp_path, 2), defaults={})
