"""What every stage that trains a model may be asked, and those that learn from rows of `data`."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import PositiveInt

from pipeline.config.blocks import DataBlock, DataBlocks, EarlyStoppingBlock, LoraBlock
from pipeline.config.field_types import OR_ONE, Decontaminate, Precision, TooLong, TruncationSide
from pipeline.config.marks import EXECUTION
from pipeline.config.stage_config import StageConfig, WithTemplate


class TrainingStage(StageConfig):
    """What every stage that trains a model may be asked.

    batch_size: sequences per optimizer step over all devices; accumulation is derived from it.
    precision: of the training arithmetic. What is trained stays fp32, as do embeddings and norms;
    frozen projections (below an adapter, of a reference) are kept in it. fp16 needs a GPU.
    lora: train an adapter instead of all weights.
    training_args: goes through to the upstream config class, names checked against it.
    eval_data: what is measured during training when `training_args` has an `eval_strategy`, and
    never trained on; without it the held-out part of what is trained on (`holdout`; a task's
    validation split).
    early_stopping: when evaluations during training do not improve any more.
    decontaminate: as the recipe's, for this stage.
    """

    best_metric: ClassVar[str] = "loss"  # by which the best checkpoint is told

    batch_size: PositiveInt = 16
    precision: Precision = "fp32"
    lora: LoraBlock | None = None
    training_args: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
    eval_data: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    early_stopping: EarlyStoppingBlock | None = None
    # `drop` is part of what is computed, with what is then held against (plan/identity.py).
    decontaminate: Annotated[Decontaminate | None, EXECUTION] = None

    @property
    @abstractmethod
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""


class TrainingOnData(TrainingStage):
    """What every stage that learns from the rows of `data` may be asked.

    data: the sources that it learns from; their columns tell the form of the rows.
    """

    data: DataBlocks

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""
        return self.data


class TrainingOnRows(WithTemplate, TrainingOnData):
    """What every stage that learns from rows of `data`, each as it is, may be asked.

    too_long: what becomes of a row of more than `max_length` tokens (of `training_args`; without
    it as many as the model has positions): drop it, truncate it, or make it an error. Dropped and
    truncated rows are counted; that most are dropped is an error.
    truncation_side: where `truncate` takes away. right: the end of a response, which is then not
    taught to stop; left: the beginning of the prompt.
    """

    too_long: TooLong = "drop"
    truncation_side: TruncationSide = "right"
