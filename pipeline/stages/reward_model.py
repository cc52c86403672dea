"""Stage `reward_model`: learns which of two responses is preferred, through TRL's RewardTrainer.

Bradley-Terry (Ouyang et al. 2022, eq. 1): a scalar head on the policy's network, the loss is
-log sigmoid(score of chosen - score of rejected), with a margin (Touvron et al. 2023) or a soft
label where the data has them. What it learnt is measured on pairs it never saw: held_out.json.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config.field_types import ModelRef
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.training_args import FINE_TUNING_DEFAULTS
from pipeline.config.training_stage import TrainingOnRows
from pipeline.files.names import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from eval.statistics.pairwise import ScoredPair
    from pipeline.data.encoding.pairs import EncodedPair

TRAINING_DEFAULTS: dict[str, Any] = {**FINE_TUNING_DEFAULTS, "learning_rate": 1e-5}
_CARRIED = ("_metrics", "_total_train_tokens")


class RewardModelConfig(TrainingOnRows):
    """model: whose network the score is read from, usually the SFT policy. data: preferences."""

    stage: Literal["reward_model"]
    model: ModelRef


def run(config: RewardModelConfig, context: StageContext) -> StageResult:
    """Encode the pairs, train, measure on held-out pairs, save network and head."""
    from trl.trainer.reward_config import RewardConfig

    from eval.model import positions_of
    from pipeline.data.encoding.lengths import limit_of
    from pipeline.data.encoding.pairs import encode_held_out_pairs, encode_pairs
    from pipeline.data.mixing import row_mixture, share_metrics
    from pipeline.data.training_sources import row_sources
    from pipeline.models.chat_templates import begun
    from pipeline.models.dropout import without_dropout
    from pipeline.models.reward import as_reward_model, padding_for_rewards
    from pipeline.models.save import save_trained
    from pipeline.models.training import (
        check_length,
        peft_config,
        within_positions,
    )
    from pipeline.training.arguments import arguments, refusals
    from pipeline.training.loop import train
    from pipeline.training.reward_trainer import SoftRewardTrainer, collator

    source = context.model(config.model)
    sources = row_sources(config.data, context.places, STAGE.data_forms, context.screen)
    rows, shares = row_mixture(sources, seed=context.seed)
    start = begun(source, config, rows, context.places, context.revisions)
    tokenizer = start.tokenizer
    tokenizer.pad_token = padding_for_rewards(tokenizer)
    module = as_reward_model(start.module, tokenizer)
    args = arguments(
        RewardConfig, config, context, defaults=within_positions(STAGE.defaults(config), module)
    )
    check_length(args.max_length, module, source, context)
    limit = limit_of(config, args.max_length, positions_of(module.config))
    pairs, report = encode_pairs(rows, tokenizer, limit=limit)
    report.refuse(context.name)
    held_out, left_out = encode_held_out_pairs(
        config,
        context.places,
        STAGE.data_forms,
        tokenizer,
        limit=limit,
        may_be_none=args.eval_strategy == "no",
    )
    if args.disable_dropout:  # upstream turns layers off, not rates that a network reads itself
        without_dropout(module, saved=[module])
    with refusals(context):
        trainer = SoftRewardTrainer(
            model=module,
            args=args,
            train_dataset=_dataset(pairs),
            eval_dataset=_dataset(held_out) if held_out and args.eval_strategy != "no" else None,
            data_collator=collator(tokenizer, args.pad_to_multiple_of),
            processing_class=tokenizer,
            peft_config=peft_config(start.config, "SEQ_CLS"),
        )
    names = [pair.where for pair in pairs]
    before = _scored(trainer.model, held_out, context) if context.is_main else []
    metrics = train(trainer, start.config, context, rows=names, carried=_CARRIED)
    properties: dict[str, Any] = {}
    if context.is_main:
        if held_out:
            metrics = _measured(trainer.model, held_out, before, context) | metrics
        saved, properties = save_trained(trainer.model, tokenizer, source, context.out)
        metrics |= saved
    return StageResult(
        metrics={
            **metrics,
            **report.metrics(),
            **left_out.held_out_metrics(),
            "rows_left_out_per_epoch": len(pairs) % config.batch_size,
            **share_metrics(shares, "pairs"),
            **start.template.metrics(),
        },
        properties=properties,
    )


def _scored(module: Any, pairs: Sequence[EncodedPair], context: StageContext) -> list[ScoredPair]:
    """Score held-out pairs."""
    from pipeline.data.encoding.pairs import attach_scores
    from reward.model import scores

    sequences = [pair.prompt_ids + pair.chosen_ids for pair in pairs]
    sequences += [pair.prompt_ids + pair.rejected_ids for pair in pairs]

    def show(done: int) -> None:
        context.progress("held-out responses", done, len(sequences))

    return attach_scores(pairs, scores(module, sequences, on_progress=show))


def _measured(
    module: Any, pairs: Sequence[EncodedPair], before: Sequence[ScoredPair], context: StageContext
) -> dict[str, Any]:
    """Score held-out pairs, write held_out.json, return the figures that matter most."""
    from eval.statistics.pairwise import mean_loss, report

    found = _scored(module, pairs, context)
    measured = report(found)
    (context.out / HELD_OUT).write_text(json.dumps(measured, indent=1), encoding="utf-8")
    return {
        "held_out_loss_before": mean_loss(before),
        "held_out_loss": mean_loss(found),
        "held_out_accuracy": measured["accuracy"],
        "held_out_low": measured["low"],
        "held_out_high": measured["high"],
        "held_out_pairs": measured["n"],
        "calibration_error": measured["calibration_error"],
        "length_correlation": measured["length"]["correlation"],
        "longer_is_chosen": measured["length"]["longer_is_chosen"],
        **{f"held_out_{key}": value for key, value in measured["scores"].items()},
    }


def _dataset(pairs: Sequence[EncodedPair]) -> Dataset:
    from datasets import Dataset

    from pipeline.data.encoding.pairs import label_columns

    columns: dict[str, Any] = {
        "chosen_ids": [pair.prompt_ids + pair.chosen_ids for pair in pairs],
        "rejected_ids": [pair.prompt_ids + pair.rejected_ids for pair in pairs],
        "row": list(range(len(pairs))),
    }
    return Dataset.from_dict(columns | label_columns(pairs))


STAGE = Stage(
    config=RewardModelConfig,
    run=run,
    produces="reward_model",
    version=4,
    trainer="RewardConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 1e-4},  # ten times: Biderman et al. 2024
    data_forms=("preference",),
    is_distributed=True,
)
