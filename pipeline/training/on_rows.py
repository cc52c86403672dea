"""What sft, dpo, kto and reward_model have in common: from a recipe's rows to a saved model.

Each of these stages begins, encodes, makes a trainer, trains and finishes. Between these calls it
says what is its own: the trainer, how rows become its columns, and what is measured on held-out
rows before and after. Not pre-training (documents, no rows) and not PPO (prompts, no responses).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eval.model import positions_of
from pipeline.config.stage import StageResult
from pipeline.data.encoding.lengths import limit_of
from pipeline.data.encoding.row_table import EncodedRow
from pipeline.data.kept_rows import Reading
from pipeline.data.mixing import share_metrics
from pipeline.data.reading.data_blocks import read_held_out_records
from pipeline.data.training_sources import Mixture
from pipeline.models.chat_templates import load_with_template
from pipeline.models.save import save_trained
from pipeline.models.training import check_length, within_positions
from pipeline.training.arguments import arguments
from pipeline.training.kept import read_kept
from pipeline.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

    from pipeline.config.stage import Stage, StageContext, StageInput
    from pipeline.config.training_stage import TrainingOnRows, TrainingStage
    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.encoding.row_table import RowTable
    from pipeline.data.kept_rows import RowKind
    from pipeline.data.mixing import RowShare
    from pipeline.models.chat_templates import TemplatedModel

    Adapt = Callable[[PreTrainedModel, PreTrainedTokenizerBase], PreTrainedModel]

# What feeds the log lines of TRL's trainers, and what upstream forgets when it resumes.
_CARRIED = ("_metrics", "_total_train_tokens")

Row = TypeVar("Row", bound=EncodedRow)


@dataclass(frozen=True)
class RowTraining:
    """What a stage has before its rows are encoded.

    config: the stage's; its `lora` also trains the embeddings where tokens are new to the model.
    source: the model that training begins with. start: the same, loaded, with its chat template.
    module: what is trained: that model, or its network with a head.
    args: upstream's arguments. reading: its rows. limit: what becomes of rows that are too long.
    """

    config: TrainingStage
    context: StageContext
    stage: Stage
    source: StageInput
    start: TemplatedModel
    module: PreTrainedModel
    args: Any
    reading: Reading
    limit: Limit

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's, with the template that the stage asks for."""
        return self.start.tokenizer

    @property
    def evaluates(self) -> bool:
        """Whether held-out rows are evaluated during training too."""
        return self.args.eval_strategy != "no"


@dataclass(frozen=True)
class EncodedRows(Generic[Row]):
    """Rows as token ids.

    noun: rows or pairs. trained: what the trainer learns from. held_out: never trained on.
    evaluated: those of them that training evaluates on; None where it does not. metrics: what
    became of the rows. shares: how many each source gave. has_conversations: whether one was a
    conversation.
    """

    noun: str
    trained: RowTable[Row]
    held_out: RowTable[Row]
    evaluated: RowTable[Row] | None
    metrics: dict[str, Any]
    shares: Sequence[RowShare]
    has_conversations: bool


def begin(
    config: TrainingOnRows,
    context: StageContext,
    stage: Stage,
    *,
    source: StageInput,
    config_class: type[TrainingArguments],
    adapt: Adapt | None = None,
    forced: dict[str, Any] | None = None,
) -> RowTraining:
    """Load the model with the template that its rows need, derive the arguments.

    source: the model to train. config_class: upstream's, for `training_args`. adapt: makes of the
    loaded model what is trained. forced: arguments that are ours to set. Raises PosttrainError for
    a `max_length` beyond the model's positions, and for arguments that upstream refuses.
    """
    places, forms = context.places, stage.data_forms
    reading = Reading(
        Mixture(config.data, places, forms, context.screen, seed=context.seed),
        lambda: read_held_out_records(config, places, forms),
        forms,
        context.keeping,
    )
    start = load_with_template(source, config, reading.needs_template, places, context.revisions)
    module = start.module if adapt is None else adapt(start.module, start.tokenizer)
    defaults = within_positions(stage.defaults(config), module)
    args = arguments(config_class, config, context, defaults=defaults, forced=forced)
    check_length(args.max_length, module, source, context)
    limit = limit_of(config, args.max_length, positions_of(module.config))
    return RowTraining(start.config, context, stage, source, start, module, args, reading, limit)


def encode_rows(training: RowTraining, kind: RowKind[Row]) -> EncodedRows[Row]:
    """Encode the rows to train on and the held-out ones, both within the stage's length limit.

    Raises PosttrainError where the limit leaves too few rows.
    """
    kept = read_kept(
        kind,
        training.reading,
        training.tokenizer,
        training.limit,
        training.context,
        may_be_none=not training.evaluates,
    )
    return EncodedRows(
        kept.report.noun,
        kept.trained,
        kept.held_out,
        kept.held_out if training.evaluates and len(kept.held_out) else None,
        {**kept.report.metrics(), **kept.held_out_report.held_out_metrics()},
        kept.shares,
        kept.has_conversations,
    )


def train_on_rows(
    training: RowTraining, trainer: Trainer, *, names: Sequence[str]
) -> dict[str, Any]:
    """Train to the last step; return metrics. names: of the rows by number, for errors."""
    return train(trainer, training.config, training.context, rows=names, carried=_CARRIED)


def finish(
    training: RowTraining,
    trainer: Trainer,
    rows: EncodedRows[Any],
    *,
    metrics: dict[str, Any],
    batch_metrics: dict[str, Any],
    properties: dict[str, Any] | None = None,
) -> StageResult:
    """Save what was trained; say what was measured and what became of the rows.

    metrics: of training and of held-out rows. batch_metrics: how rows became batches.
    properties: what later stages need to know, beside what the saved model says itself.
    """
    saved: dict[str, Any] = {}
    saved_properties: dict[str, Any] = {}
    if training.context.is_main:
        saved, saved_properties = save_trained(
            trainer.model, training.tokenizer, training.source, training.context.out
        )
    return StageResult(
        metrics={
            **metrics,
            **saved,
            **rows.metrics,
            **batch_metrics,
            **share_metrics(rows.shares, rows.noun),
            **training.start.template.metrics(),
        },
        properties={**(properties or {}), **saved_properties},
    )
