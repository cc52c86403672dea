"""Stage `sft`: supervised fine-tuning on demonstrations, through TRL's SFTTrainer.

The loss is on the response alone: the rows are tokenized here by segments, so that a user's text
can never become a control token and the mask is known to be right; TRL gets token ids and labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pipeline.config.field_types import ModelRef, TooLong
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.training_args import FINE_TUNING_DEFAULTS, WITHOUT_ROUTER_LOSS
from pipeline.config.training_stage import TrainingOnRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.data.encoding.examples import EncodedExample
    from pipeline.training.layouts import Layout
    from pipeline.training.sft_trainer import EncodedSftTrainer

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 2e-5,
}
_CARRIED = ("_metrics", "_total_train_tokens")


class SftConfig(TrainingOnRows):
    """model: to fine-tune.

    data: chats, prompts with completions, or with `form: text` texts, of which every token is
    trained on: a little of what the model was pre-trained on keeps it from being forgotten.
    packing: lay several rows in a line of `max_length` tokens (without it of 1,024, or as long as
    the longest row), where they do not see each other; `batch_size` then counts lines.
    """

    stage: Literal["sft"]
    model: ModelRef
    too_long: TooLong = "truncate"
    packing: bool = False


def run(config: SftConfig, context: StageContext) -> StageResult:
    """Encode the rows with their masks, train, save."""
    from trl.trainer.sft_config import SFTConfig

    from eval.model import positions_of
    from pipeline.data.encoding.examples import encode_records
    from pipeline.data.encoding.lengths import limit_of
    from pipeline.data.mixing import row_mixture, share_metrics
    from pipeline.data.reading.blocks import read_held_out_records
    from pipeline.data.training_sources import row_sources
    from pipeline.models.chat_templates import begun
    from pipeline.models.forms import form_of_rows, form_properties
    from pipeline.models.save import save_trained
    from pipeline.models.training import (
        check_length,
        peft_config,
        within_positions,
    )
    from pipeline.training.arguments import arguments, refusals
    from pipeline.training.loop import train
    from pipeline.training.sft_trainer import EncodedSftTrainer

    source = context.model(config.model)
    sources = row_sources(config.data, context.places, STAGE.data_forms, context.screen)
    rows, shares = row_mixture(sources, seed=context.seed)
    start = begun(source, config, rows, context.places, context.revisions)
    tokenizer, module = start.tokenizer, start.module
    args = arguments(
        SFTConfig,
        config,
        context,
        defaults=within_positions(STAGE.defaults(config), module),
        forced={"dataset_kwargs": {"skip_prepare_dataset": True}},
    )
    check_length(args.max_length, module, source, context)
    limit = limit_of(config, args.max_length, positions_of(module.config))
    examples, report = encode_records(rows, tokenizer, limit=limit)
    report.refuse(context.name)
    evaluates = args.eval_strategy != "no"
    found = read_held_out_records(config, context.places, STAGE.data_forms)
    held_out, unseen = encode_records(
        found, tokenizer, limit=limit, name="held-out rows", may_be_none=not evaluates
    )
    layout = _laid_out(config, examples, held_out if evaluates else [], module, tokenizer, context)
    with refusals(context):
        trainer = EncodedSftTrainer(
            model=module,
            args=args,
            train_dataset=layout.train,
            eval_dataset=layout.held_out,
            processing_class=tokenizer,
            peft_config=peft_config(start.config, "CAUSAL_LM"),
        )
    if layout.collate is not None:
        trainer.data_collator = layout.collate
    before = _loss(trainer, held_out, context)
    metrics = train(trainer, start.config, context, rows=layout.names, carried=_CARRIED)
    properties: dict[str, Any] = {}
    if context.is_main:
        metrics |= _held_out(before, _loss(trainer, held_out, context), held_out)
        saved, properties = save_trained(trainer.model, tokenizer, source, context.out)
        metrics |= saved
    return StageResult(
        metrics={
            **metrics,
            **report.metrics(),
            **unseen.held_out_metrics(),
            **layout.metrics,
            **share_metrics(shares, "rows"),
            **start.template.metrics(),
        },
        properties={
            **form_properties(tokenizer, form_of_rows(tokenizer, rows)),
            **properties,
        },
    )


def _loss(
    trainer: EncodedSftTrainer, held_out: Sequence[EncodedExample], context: StageContext
) -> float | None:
    """Return the loss on held-out rows, on the first process; None where there are none."""
    from pipeline.training.held_out import MOST_ROWS, supervised_loss

    if not held_out or not context.is_main:
        return None
    module = trainer.accelerator.unwrap_model(trainer.model)
    return supervised_loss(
        module,
        held_out[:MOST_ROWS],
        on_progress=lambda done, total: context.progress("held-out rows", done, total),
    )


def _held_out(
    before: float | None, after: float | None, held_out: Sequence[EncodedExample]
) -> dict[str, float]:
    """Return what was measured on held-out rows as metrics; empty where nothing was."""
    from pipeline.training.held_out import MOST_ROWS

    if before is None or after is None:
        return {}
    rows = min(len(held_out), MOST_ROWS)
    return {"held_out_loss_before": before, "held_out_loss": after, "held_out_rows": rows}


def _laid_out(
    config: SftConfig,
    examples: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample],
    module: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    context: StageContext,
) -> Layout:
    """Return the rows as the recipe wants them laid out."""
    from eval.model import positions_of
    from pipeline.training.layouts import check_packing, line_length, packed_in_lines, row_by_row

    pad = tokenizer.pad_token_id
    pad = pad if isinstance(pad, int) else 0
    if not config.packing:
        return row_by_row(examples, held_out, module, pad)
    longest = max(len(each.input_ids) for each in (*examples, *held_out))
    asked = config.training_args.get("max_length")
    length = line_length(asked, longest, positions_of(module.config))
    check_packing(context.name, module, length)
    return packed_in_lines(examples, held_out, pad, length)


STAGE = Stage(
    config=SftConfig,
    run=run,
    produces="policy",
    version=5,
    trainer="SFTConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 2e-4},  # ten times: Biderman et al. 2024
    data_forms=("chat", "prompt_completion"),
    is_distributed=True,
)
