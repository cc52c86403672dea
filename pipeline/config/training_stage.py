"""The keys of every stage that trains a model, and of those that learn from rows of `data`."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import PositiveInt

from pipeline.config.blocks import DataBlock, DataBlocks, EarlyStoppingBlock, LoraBlock, Source
from pipeline.config.field_types import OR_ONE, Decontaminate, Precision, TooLong, TruncationSide
from pipeline.config.marks import EXECUTION
from pipeline.config.stage_config import StageConfig, WithTemplate


class TrainingStage(StageConfig):
    """The keys of every stage that trains a model.

    batch_size: sequences per optimizer step over all devices; accumulation is derived from it.
    precision: of the training arithmetic. What is trained stays fp32, as do embeddings and norms;
    frozen projections (below an adapter, of a reference) are kept in it. fp16 needs a GPU.
    lora: train an adapter instead of all weights.
    training_args: passed on to the upstream config class, with names checked against it.
    eval_data: data to evaluate on during training when `training_args` has an `eval_strategy`,
    never trained on; by default the held-out part of the training data (`holdout`; a task's
    validation split).
    early_stopping: stop when evaluations during training no longer improve.
    decontaminate: as the recipe's, for this stage.
    """

    best_metric: ClassVar[str] = "loss"  # by which the best checkpoint is told

    batch_size: PositiveInt = 16
    precision: Precision = "fp32"
    lora: LoraBlock | None = None
    training_args: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
    eval_data: Annotated[tuple[Source, ...], OR_ONE] = ()
    early_stopping: EarlyStoppingBlock | None = None
    # `drop` does change what is computed: plan/identity.py adds it, with the items searched for.
    decontaminate: Annotated[Decontaminate | None, EXECUTION] = None

    @property
    @abstractmethod
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""


class TrainingOnData(TrainingStage):
    """The keys of every stage that learns from the rows of `data`.

    data: the sources that it learns from; their columns decide the form of the rows.
    """

    data: DataBlocks

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""
        return self.data


class TrainingOnRows(WithTemplate, TrainingOnData):
    """The keys of every stage that learns from rows of `data` one by one.

    too_long: what becomes of rows with more than `max_length` tokens (of `training_args`; by
    default as many as the model has positions): drop, truncate, or error. Dropped and truncated
    rows are counted; it is an error if most rows are dropped.
    truncation_side: where `truncate` cuts. On the right it cuts the end of a response, which then
    teaches no stopping; on the left, the beginning of the prompt.
    """

    too_long: TooLong = "drop"
    truncation_side: TruncationSide = "right"
