"""Stage `pretrain`: next-token prediction, from random weights or continuing from a model.

Documents are packed into rows of `sequence_length` so that none sees another (block-causal
attention); a document longer than a row is split. A model that would see across the border of two
documents gets one per row, padded. Bits per byte on text that was held out is measured at the end.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.config.field_types import Count, ModelRef
from pipeline.config.new_model import NewModelBlock
from pipeline.config.stage import Stage, StageContext, StageInput, StageResult
from pipeline.config.trainer_fields import positions_field
from pipeline.config.training_stage import TrainingOnData
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.data.documents import Documents
    from pipeline.data.encoding.packing import PackedRows
    from pipeline.data.encoding.padding import PaddedRows

TRAINING_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "logging_steps": 10,
}
_HELD_OUT_DOCUMENTS = 200
_WINDOW = "window"
# How metrics of held-out text begin, and those that were measured before training.
_BEFORE = ("bits_per_byte ", "bits_per_byte_before ")


class PretrainConfig(TrainingOnData):
    """model: a new one or one to continue from. tokens: to train on. sequence_length: of a row."""

    stage: Literal["pretrain"]
    model: Annotated[NewModelBlock | ModelRef, Field(union_mode="left_to_right")]
    tokens: Count
    sequence_length: Annotated[PositiveInt, Field(ge=8)] = 256

    @model_validator(mode="after")
    def _enough_tokens(self) -> PretrainConfig:
        if self.tokens < self.sequence_length * self.batch_size:
            raise ValueError(
                f"`tokens` {self.tokens} is less than one step of batch_size {self.batch_size} "
                f"x sequence_length {self.sequence_length}; raise it, or lower one of these"
            )
        if self.lora is not None and isinstance(self.model, NewModelBlock):
            raise ValueError("`lora` adapts a model that is there; a new one has all to learn")
        limit = self.model.positions if isinstance(self.model, NewModelBlock) else None
        if limit is not None and self.sequence_length > limit:
            raise ValueError(
                f"`sequence_length` {self.sequence_length} is beyond the {limit} positions of "
                "`model`; lower it, or raise those"
            )
        return self

    @property
    def max_positions(self) -> int | None:
        """As `model` says, else the length trained on; None for one to continue from.

        None also for an architecture that has no positions to run out of.
        """
        if not isinstance(self.model, NewModelBlock):
            return None
        if positions_field(self.model.architecture) is None:
            return None
        return self.model.positions or self.sequence_length

    @property
    def defaults(self) -> dict[str, int]:
        """What the new model's config gets where `model` does not say it."""
        if not isinstance(self.model, NewModelBlock) or self.model.positions is not None:
            return {}
        name = positions_field(self.model.architecture)
        return {} if name is None else {name: self.sequence_length}


def run(config: PretrainConfig, context: StageContext) -> StageResult:
    """Pack the documents, train, measure bits per byte on held-out text, save."""
    from transformers import Trainer, TrainingArguments

    from pipeline.data.documents import id_type
    from pipeline.data.kept_documents import mix_kept
    from pipeline.data.screening.screen import Screen
    from pipeline.data.training_sources import token_sources
    from pipeline.models.probe import keeps_rows_apart, sees_rows
    from pipeline.models.save import TRAINED_LENGTH, save_trained
    from pipeline.training.arguments import arguments
    from pipeline.training.loop import train
    from pipeline.training.one_line import OneLine, network_of_lines
    from pipeline.training.rows import KnowsRows
    from pipeline.training.token_means import TokenMeans

    class RowTrainer(TokenMeans, KnowsRows, OneLine, Trainer):
        pass

    tokenizer, module, source = _model(config, context)
    packs = keeps_rows_apart(module, line_length=config.sequence_length)
    sources = token_sources(
        config.data, context.places, tokenizer, seed=context.seed, screen=context.screen
    )
    documents, shares = mix_kept(
        sources,
        tokenizer,
        tokens=config.tokens,
        seed=context.seed,
        dtype=id_type(len(tokenizer)),
        keeping=context.keeping,
        screen=context.screen if isinstance(context.screen, Screen) else None,
        on_wait=context.stop_if_asked,
        on_progress=partial(_tell_progress, context, config.tokens),
    )
    rows = _rows(documents, config, tokenizer, packs=packs)
    args = arguments(TrainingArguments, config, context, defaults=TRAINING_DEFAULTS)
    trainer = RowTrainer(
        model=module,
        args=args,
        train_dataset=rows.dataset(),
        eval_dataset=_eval_dataset(config, context, tokenizer, packs=packs),
        data_collator=rows.collate,
        processing_class=tokenizer,
    )
    trainer.network = network_of_lines(module, args) if packs else None
    names = [f"{'packed' if packs else 'padded'} row {number}" for number in range(len(rows))]
    length = _longest_row(config, source)
    before: dict[str, float] = {}
    if context.is_main:
        read = _measure_held_out(config, context, tokenizer, trainer.model, length)
        before = {key.replace(*_BEFORE): value for key, value in read.items() if key != _WINDOW}
    metrics = train(trainer, config, context, rows=names)
    properties: dict[str, Any] = {}
    if context.is_main:
        saved, properties = save_trained(trainer.model, tokenizer, source, context.out)
        metrics |= (
            saved | before | _measure_held_out(config, context, tokenizer, trainer.model, length)
        )
        properties |= {} if length is None else {TRAINED_LENGTH: length}
    return StageResult(
        metrics={
            **metrics,
            "trained_tokens": rows.num_loss_tokens,
            "packing": "packed" if packs else f"padded, since {sees_rows(module)}",
            "padding_share": round(rows.padding_share, 4),
            "sources": [str(share) for share in shares],
        },
        properties={"form": "document", **properties},
    )


def _model(
    config: PretrainConfig, context: StageContext
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, StageInput]:
    """Return tokenizer, module (an adapter on it, if asked for) and what training begins with."""
    from eval.model import positions_of
    from pipeline.models.foreign import NONSENSE
    from pipeline.models.load import load_tokenizer
    from pipeline.models.new import new_policy
    from pipeline.models.training import add_adapter, load_for_training

    if not isinstance(config.model, NewModelBlock):
        source = context.model(config.model)
        tokenizer, module = load_tokenizer(source), load_for_training(source, config)
    else:
        source = context.model(config.model.tokenizer)
        tokenizer = load_tokenizer(source)
        fields = {**config.defaults, **config.model.fields()}
        try:
            module = new_policy(config.model.architecture, fields, tokenizer)
        except NONSENSE as error:
            first = " ".join(str(error).split())[:300]
            raise PosttrainError(context.name, f"the model cannot be made: {first}") from error
    limit = positions_of(module.config)
    if limit is not None and config.sequence_length > limit:
        raise PosttrainError(
            context.name,
            f"`sequence_length` {config.sequence_length} is beyond the model's {limit}",
        )
    return tokenizer, add_adapter(module, config) if config.lora else module, source


def _rows(
    documents: Documents,
    config: PretrainConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    packs: bool,
) -> PackedRows | PaddedRows:
    """Lay documents out in rows: packed, or one per row."""
    from pipeline.data.encoding.packing import pack
    from pipeline.data.encoding.padding import pad

    pad_id = tokenizer.pad_token_id
    return (pack if packs else pad)(
        documents,
        sequence_length=config.sequence_length,
        pad_token_id=pad_id if isinstance(pad_id, int) else 0,
    )


def _tell_progress(context: StageContext, tokens: int, done: int) -> None:
    """Show how many tokens are encoded, and stop where that is asked for."""
    context.stop_if_asked()
    context.progress("tokens encoded", done, tokens)


def _eval_dataset(
    config: PretrainConfig,
    context: StageContext,
    tokenizer: PreTrainedTokenizerBase,
    *,
    packs: bool,
) -> Any:
    """Return held-out documents, in rows like the others; None unless training evaluates."""
    if config.training_args.get("eval_strategy", "no") == "no":
        return None
    from pipeline.data.documents import Documents
    from pipeline.data.encoding.examples import encode_documents
    from pipeline.data.reading.data_blocks import read_held_out_records

    records = read_held_out_records(
        config, context.places, STAGE.data_forms, at_most=_HELD_OUT_DOCUMENTS
    )
    documents = Documents.of(encode_documents(records, tokenizer))
    return _rows(documents, config, tokenizer, packs=packs).dataset()


def _longest_row(config: PretrainConfig, source: StageInput) -> int | None:
    """Return the longest rows that the model was pre-trained on, here or before, if known."""
    from pipeline.models.save import TRAINED_LENGTH

    if isinstance(config.model, NewModelBlock):
        return config.sequence_length
    before = source.properties.get(TRAINED_LENGTH)
    return None if before is None else max(before, config.sequence_length)


def _measure_held_out(
    config: PretrainConfig,
    context: StageContext,
    tokenizer: PreTrainedTokenizerBase,
    module: Any,
    trained_length: int | None,
) -> dict[str, float]:
    """Return bits per byte on each source's text that no step trained on, and the window."""
    from eval.asking.run import evaluate_texts
    from eval.comparison.score_rows import compare_scores
    from pipeline.data.reading.data_blocks import keeps_texts, read_held_out_texts
    from pipeline.models.language import wrap

    held_out = {
        block.label: read_held_out_texts(block, context.places, at_most=_HELD_OUT_DOCUMENTS)
        for block in config.data
        if keeps_texts(block, context.places)
    }
    model = wrap(module, tokenizer, name=context.name, form="document")
    model = replace(model, trained_length=trained_length)
    results = evaluate_texts(
        model,
        held_out,
        batch_size=16,
        on_progress=context.progress,
        should_stop=context.should_stop,
    )
    rows = compare_scores({context.name: results}, context.name)
    bits_per_byte = {
        f"bits_per_byte {row.task}": row.score for row in rows if row.score is not None
    }
    return {**bits_per_byte, _WINDOW: model.window} if bits_per_byte else {}


STAGE = Stage(
    config=PretrainConfig,
    run=run,
    produces="policy",
    version=6,
    trainer="TrainingArguments",
    # For adapters too: it is a new model's, ten times what a model to continue from would get.
    training_defaults=TRAINING_DEFAULTS,
    data_forms=("text",),
    is_distributed=True,
    splits="weights",
)
