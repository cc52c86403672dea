"""Stage `kto`: learns from answers that were wanted or not (thumbs up, thumbs down), without pairs.

Kahneman-Tversky optimisation (Ethayarajh et al. 2024) and the unpaired APO-zero loss (D'Oosterlinck
et al. 2024; `training_args: {loss_type: apo_zero_unpaired}`), through TRL's KTOTrainer; how its KL
term is taken here is in pipeline/training/kto_trainer.py. Pairs are taken too, as two rows each.
The reference is the policy as it came in, or the model that `reference` names. Measured after
training: whether the implicit rewards of held-out answers have the signs of their labels, and KL to
the reference on the policy's own samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pipeline.config.field_types import ModelRef
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.training_args import FINE_TUNING_DEFAULTS, WITHOUT_ROUTER_LOSS
from pipeline.config.training_stage import TrainingOnRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from pipeline.data.encoding.row_table import RowTable
    from pipeline.data.encoding.unpaired import EncodedAnswer
    from pipeline.training.kto_trainer import EncodedKtoTrainer
    from pipeline.training.on_rows import EncodedRows, RowTraining

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 1e-6,
    "beta": 0.1,
    "loss_type": "kto",
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
}


class KtoConfig(TrainingOnRows):
    """model: the policy to align. data: answers with a label, or preferences.

    reference: what it is kept close to; without it the policy as it came in.
    """

    stage: Literal["kto"]
    model: ModelRef
    reference: ModelRef | None = None


def run(config: KtoConfig, context: StageContext) -> StageResult:
    """Encode the rows, train, measure implicit rewards and divergence, save."""
    from trl.trainer.kto_config import KTOConfig

    from pipeline.data.row_kinds import ANSWERS
    from pipeline.models.forms import form_of_rows, form_properties
    from pipeline.training.answer_ranking import measure_after_training, measure_before_training
    from pipeline.training.arguments import refusals
    from pipeline.training.on_rows import begin, encode_rows, finish, train_on_rows
    from pipeline.training.policy_metrics import TrainedPolicy
    from pipeline.training.references import load_reference_of, saves_time

    source = context.model(config.model)
    training = begin(config, context, STAGE, source=source, config_class=KTOConfig)
    rows = encode_rows(training, ANSWERS)
    labels = _check_labels(training, rows)
    args, tokenizer = training.args, training.tokenizer
    if "precompute_ref_log_probs" not in config.training_args and args.loss_type != "kto":
        args.precompute_ref_log_probs = saves_time(training, len(rows.trained))
    reference = context.model(config.reference) if config.reference else None
    with refusals(context):
        trainer = _trainer(training, rows, load_reference_of(training, reference))
    form = form_of_rows(tokenizer, has_conversations=rows.has_conversations)
    policy = TrainedPolicy(trainer, tokenizer, form, reference or source, reference is not None)
    metrics = measure_before_training(policy, rows, context)
    metrics |= train_on_rows(training, trainer, names=rows.trained.names)
    metrics = measure_after_training(policy, rows, context) | metrics
    return finish(
        training,
        trainer,
        rows,
        metrics={**metrics, **labels},
        batch_metrics={
            "rows_left_out_per_epoch": len(rows.trained) % config.batch_size,
            "reference_precomputed": bool(args.precompute_ref_log_probs),
        },
        properties=form_properties(tokenizer, form),
    )


def _check_labels(training: RowTraining, rows: EncodedRows[EncodedAnswer]) -> dict[str, str]:
    """Raise PosttrainError where one label is missing; return a warning about uneven ones."""
    from pipeline.data.encoding.label_balance import label_metrics, one_label_problem
    from pipeline.errors import PosttrainError

    num_desirable = int(rows.trained.column("is_desirable").sum())
    counts = num_desirable, len(rows.trained) - num_desirable
    problem = one_label_problem(*counts, vars(training.args))
    if problem:
        raise PosttrainError(training.context.name, *problem)
    return label_metrics(*counts, vars(training.args))


def _trainer(
    training: RowTraining, rows: EncodedRows[EncodedAnswer], reference: PreTrainedModel | None
) -> EncodedKtoTrainer:
    from pipeline.models.dropout import turn_off_dropout
    from pipeline.models.training import peft_config
    from pipeline.training.kto_trainer import EncodedKtoTrainer

    args, module, context = training.args, training.module, training.context
    if args.disable_dropout:  # upstream turns layers off, not rates that a network reads itself
        turn_off_dropout(module, saved=[module])
    num_rows = len(rows.trained)
    return EncodedKtoTrainer(
        model=module,
        ref_model=reference,
        args=args,
        train_dataset=_dataset(rows.trained),
        eval_dataset=None if rows.evaluated is None else _dataset(rows.evaluated),
        processing_class=training.tokenizer,
        peft_config=peft_config(training.config, "CAUSAL_LM"),
        on_reference=lambda done: context.progress("reference", done, num_rows),
    )


def _dataset(rows: RowTable[EncodedAnswer]) -> Dataset:
    from pipeline.data.encoding.row_table import dataset_of

    table = rows.table.select(["prompt_ids", "completion_ids", "is_desirable"])
    return dataset_of(table.rename_columns(["prompt_ids", "completion_ids", "label"]))


STAGE = Stage(
    config=KtoConfig,
    run=run,
    produces="policy",
    version=5,
    trainer="KTOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 1e-5},  # as of dpo, ten times: Biderman et al. 2024
    data_forms=("unpaired_preference", "preference"),
    is_distributed=True,
    splits="weights",
)
