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
    from pipeline.data.encoding.examples import EncodedExample
    from pipeline.data.encoding.row_table import RowTable
    from pipeline.training.layouts import Layout
    from pipeline.training.on_rows import EncodedRows, RowTraining
    from pipeline.training.sft_trainer import EncodedSftTrainer

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 2e-5,
}
_MOST_HELD_OUT = 500  # rows that are measured, in the order of the data


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
    """Encode the rows with their masks, train, measure the loss on held-out rows, save."""
    from trl.trainer.sft_config import SFTConfig

    from pipeline.data.row_kinds import EXAMPLES
    from pipeline.models.forms import form_of_rows, form_properties
    from pipeline.models.training import peft_config
    from pipeline.training.arguments import refusals
    from pipeline.training.on_rows import begin, encode_rows, finish, train_on_rows
    from pipeline.training.one_line import network_of_lines
    from pipeline.training.sft_trainer import EncodedSftTrainer

    training = begin(
        config,
        context,
        STAGE,
        source=context.model(config.model),
        config_class=SFTConfig,
        forced={"dataset_kwargs": {"skip_prepare_dataset": True}},
    )
    rows = encode_rows(training, EXAMPLES)
    layout = _lay_out(config, training, rows)
    with refusals(context):
        trainer = EncodedSftTrainer(
            model=training.module,
            args=training.args,
            train_dataset=layout.train,
            eval_dataset=layout.held_out,
            processing_class=training.tokenizer,
            peft_config=peft_config(training.config, "CAUSAL_LM"),
        )
    if layout.collate is not None:
        trainer.data_collator = layout.collate
        trainer.network = network_of_lines(training.module, training.args)
    loss_before = _measure_loss(trainer, rows.held_out, context)
    metrics = train_on_rows(training, trainer, names=layout.names)
    loss = _measure_loss(trainer, rows.held_out, context)
    if loss_before is not None and loss is not None:
        metrics |= {
            "held_out_loss_before": loss_before,
            "held_out_loss": loss,
            "held_out_rows": min(len(rows.held_out), _MOST_HELD_OUT),
        }
    form = form_of_rows(training.tokenizer, has_conversations=rows.has_conversations)
    return finish(
        training,
        trainer,
        rows,
        metrics=metrics,
        batch_metrics=layout.metrics,
        properties=form_properties(training.tokenizer, form),
    )


def _measure_loss(
    trainer: EncodedSftTrainer, held_out: RowTable[EncodedExample], context: StageContext
) -> float | None:
    """Return the loss on held-out rows, on the first process; None where there are none."""
    from pipeline.training.held_out import mean_label_loss

    if not held_out or not context.is_main:
        return None
    module = trainer.accelerator.unwrap_model(trainer.model)
    return mean_label_loss(
        module,
        held_out[:_MOST_HELD_OUT],
        on_progress=lambda done, total: context.progress("held-out rows", done, total),
    )


def _lay_out(config: SftConfig, training: RowTraining, rows: EncodedRows[EncodedExample]) -> Layout:
    """Lay the rows out as the recipe wants them: packed in lines, or each as an item of its own."""
    from eval.model import positions_of
    from pipeline.training.layouts import check_packing, lay_row_by_row, line_length, pack_in_lines

    module, pad = training.module, training.tokenizer.pad_token_id
    pad = pad if isinstance(pad, int) else 0
    if not config.packing:
        return lay_row_by_row(rows.trained, rows.evaluated, module, pad)
    tables = [rows.trained, *([] if rows.evaluated is None else [rows.evaluated])]
    longest = max(int(table.lengths.max()) for table in tables)
    max_length = config.training_args.get("max_length")
    length = line_length(max_length, longest, positions_of(module.config))
    check_packing(training.context.name, module, length)
    return pack_in_lines(rows.trained, rows.evaluated, pad, length)


STAGE = Stage(
    config=SftConfig,
    run=run,
    produces="policy",
    version=9,
    trainer="SFTConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 2e-4},  # ten times: Biderman et al. 2024
    data_forms=("chat", "prompt_completion"),
    is_distributed=True,
    splits="weights",
)
