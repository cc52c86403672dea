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
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from eval.statistics.pairwise import ScoredPair
    from pipeline.data.encoding.pairs import EncodedPair
    from pipeline.data.encoding.row_table import RowTable
    from pipeline.training.reward_trainer import SoftRewardTrainer

TRAINING_DEFAULTS: dict[str, Any] = {**FINE_TUNING_DEFAULTS, "learning_rate": 1e-5}


class RewardModelConfig(TrainingOnRows):
    """model: whose network the score is read from, usually the SFT policy. data: preferences."""

    stage: Literal["reward_model"]
    model: ModelRef


def run(config: RewardModelConfig, context: StageContext) -> StageResult:
    """Encode the pairs, train, measure on held-out pairs, save network and head."""
    from trl.trainer.reward_config import RewardConfig

    from pipeline.data.row_kinds import PAIRS
    from pipeline.models.dropout import turn_off_dropout
    from pipeline.models.training import peft_config
    from pipeline.training.arguments import refusals
    from pipeline.training.on_rows import begin, encode_rows, finish, train_on_rows
    from pipeline.training.reward_trainer import SoftRewardTrainer, collator

    training = begin(
        config,
        context,
        STAGE,
        source=context.model(config.model),
        config_class=RewardConfig,
        adapt=_add_head,
    )
    pairs = encode_rows(training, PAIRS)
    args, module, tokenizer = training.args, training.module, training.tokenizer
    if args.disable_dropout:  # upstream turns layers off, not rates that a network reads itself
        turn_off_dropout(module, saved=[module])
    with refusals(context):
        trainer = SoftRewardTrainer(
            model=module,
            args=args,
            train_dataset=_dataset(pairs.trained),
            eval_dataset=None if pairs.evaluated is None else _dataset(pairs.evaluated),
            data_collator=collator(tokenizer, args.pad_to_multiple_of),
            processing_class=tokenizer,
            peft_config=peft_config(training.config, "SEQ_CLS"),
        )
    scores_before = _score_pairs(trainer, pairs.held_out, context)
    metrics = train_on_rows(training, trainer, names=pairs.trained.names)
    scores = _score_pairs(trainer, pairs.held_out, context)
    if scores:
        metrics = _report_held_out(scores_before, scores, context) | metrics
    num_left_out = len(pairs.trained) % config.batch_size
    return finish(
        training,
        trainer,
        pairs,
        metrics=metrics,
        batch_metrics={"rows_left_out_per_epoch": num_left_out},
    )


def _add_head(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Put a scalar head on the policy's network, and pad with a token that ends no response."""
    from pipeline.models.reward import as_reward_model, padding_for_rewards

    tokenizer.pad_token = padding_for_rewards(tokenizer)
    return as_reward_model(policy, tokenizer)


def _score_pairs(
    trainer: SoftRewardTrainer, pairs: Sequence[EncodedPair], context: StageContext
) -> list[ScoredPair]:
    """Score held-out pairs, on the first process; empty on the others, or where there are none."""
    from pipeline.data.encoding.pairs import attach_scores
    from pipeline.models.reward import score_ids

    if not context.is_main or not pairs:
        return []
    sequences = [pair.prompt_ids + pair.chosen_ids for pair in pairs]
    sequences += [pair.prompt_ids + pair.rejected_ids for pair in pairs]

    def show(done: int) -> None:
        context.progress("held-out responses", done, len(sequences))

    module: Any = trainer.model
    return attach_scores(pairs, score_ids(module, sequences, on_progress=show))


def _report_held_out(
    before: Sequence[ScoredPair], after: Sequence[ScoredPair], context: StageContext
) -> dict[str, Any]:
    """Write held_out.json on the scored pairs; return the figures that matter most."""
    from eval.statistics.pairwise import mean_loss, report_pairs

    ranking = report_pairs(after)
    (context.out / HELD_OUT).write_text(json.dumps(ranking, indent=1), encoding="utf-8")
    return {
        "held_out_loss_before": mean_loss(before),
        "held_out_loss": mean_loss(after),
        "held_out_accuracy": ranking["accuracy"],
        "held_out_low": ranking["low"],
        "held_out_high": ranking["high"],
        "held_out_pairs": ranking["n"],
        "calibration_error": ranking["calibration_error"],
        "length_correlation": ranking["length"]["correlation"],
        "longer_is_chosen": ranking["length"]["longer_is_chosen"],
        **{f"held_out_{key}": value for key, value in ranking["scores"].items()},
    }


def _dataset(pairs: RowTable[EncodedPair]) -> Dataset:
    from pipeline.data.encoding.pair_tables import label_columns, whole_sequences
    from pipeline.data.encoding.row_table import dataset_of

    return dataset_of(whole_sequences(pairs), label_columns(pairs))


STAGE = Stage(
    config=RewardModelConfig,
    run=run,
    produces="reward_model",
    version=7,
    trainer="RewardConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 1e-4},  # ten times: Biderman et al. 2024
    data_forms=("preference",),
    is_distributed=True,
    splits="weights",
)
