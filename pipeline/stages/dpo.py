"""Stage `dpo`: direct preference optimisation on pairs of responses, through TRL's DPOTrainer.

Rafailov et al. 2023, and all losses of TRL's (`training_args: {loss_type: [ipo]}`; losses
that sort or average over a forward pass, `aot`, `aot_unpaired` and `sft`, depend on the batch split
by their nature). Where pairs have a `probability` or a `margin` the loss uses them, or refuses them
(pipeline/training/dpo_trainer.py). The reference is the policy as it came in, or the model that
`reference` names; its log-probabilities are computed once beforehand where that saves time.
Measured after training: ranking of held-out pairs by the implicit reward, and KL to the reference
on the policy's own samples.
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

    from pipeline.data.encoding.pairs import EncodedPair
    from pipeline.data.encoding.row_table import RowTable
    from pipeline.training.dpo_trainer import EncodedDpoTrainer
    from pipeline.training.on_rows import EncodedRows, RowTraining

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 1e-6,
    "beta": 0.1,
    "loss_type": ["sigmoid"],
}


class DpoConfig(TrainingOnRows):
    """model: the policy to align. data: preferences.

    reference: what it is kept close to; without it the policy as it came in.
    """

    stage: Literal["dpo"]
    model: ModelRef
    reference: ModelRef | None = None


def run(config: DpoConfig, context: StageContext) -> StageResult:
    """Encode the pairs, train, measure ranking and divergence, save."""
    from trl.trainer.dpo_config import DPOConfig

    from pipeline.data.row_kinds import PAIRS
    from pipeline.models.forms import form_of_rows, form_properties
    from pipeline.training.arguments import refusals
    from pipeline.training.on_rows import begin, encode_rows, finish, train_on_rows
    from pipeline.training.pair_ranking import measure_after_training, measure_before_training
    from pipeline.training.policy_metrics import TrainedPolicy
    from pipeline.training.references import load_reference_of, saves_time

    source = context.model(config.model)
    training = begin(config, context, STAGE, source=source, config_class=DPOConfig)
    pairs = encode_rows(training, PAIRS)
    _check_labels(training, pairs)
    args, tokenizer = training.args, training.tokenizer
    if "precompute_ref_log_probs" not in config.training_args:
        args.precompute_ref_log_probs = saves_time(training, len(pairs.trained))
    reference = context.model(config.reference) if config.reference else None
    with refusals(context):
        trainer = _trainer(training, pairs, load_reference_of(training, reference))
    form = form_of_rows(tokenizer, has_conversations=pairs.has_conversations)
    policy = TrainedPolicy(trainer, tokenizer, form, reference or source, reference is not None)
    metrics = measure_before_training(policy, pairs, context)
    metrics |= train_on_rows(training, trainer, names=pairs.trained.names)
    metrics = measure_after_training(policy, pairs, context) | metrics
    return finish(
        training,
        trainer,
        pairs,
        metrics=metrics,
        batch_metrics={
            "rows_left_out_per_epoch": len(pairs.trained) % config.batch_size,
            "reference_precomputed": bool(args.precompute_ref_log_probs),
        },
        properties=form_properties(tokenizer, form),
    )


def _check_labels(training: RowTraining, pairs: EncodedRows[EncodedPair]) -> None:
    """Raise PosttrainError for a label of a pair that the loss has no use for."""
    from pipeline.data.encoding.pair_labels import check_labels
    from pipeline.data.encoding.pair_tables import first_labelled

    for table in (pairs.trained, pairs.held_out):
        for number in first_labelled(table):
            pair = table[number]
            label = {"probability": pair.probability, "margin": pair.margin}
            check_labels(vars(training.args), pair.where, **label)


def _trainer(
    training: RowTraining, pairs: EncodedRows[EncodedPair], reference: PreTrainedModel | None
) -> EncodedDpoTrainer:
    from pipeline.models.dropout import turn_off_dropout
    from pipeline.models.training import peft_config
    from pipeline.training.dpo_trainer import EncodedDpoTrainer

    args, module, context = training.args, training.module, training.context
    if args.disable_dropout:  # upstream turns layers off, not rates that a network reads itself
        turn_off_dropout(module, saved=[module])
    num_pairs = len(pairs.trained)
    return EncodedDpoTrainer(
        model=module,
        ref_model=reference,
        args=args,
        train_dataset=_dataset(pairs.trained),
        eval_dataset=None if pairs.evaluated is None else _dataset(pairs.evaluated),
        processing_class=training.tokenizer,
        peft_config=peft_config(training.config, "CAUSAL_LM"),
        on_reference=lambda done: context.progress("reference", done, num_pairs),
    )


def _dataset(pairs: RowTable[EncodedPair]) -> Dataset:
    from pipeline.data.encoding.pair_tables import label_columns
    from pipeline.data.encoding.row_table import dataset_of

    table = pairs.table.select(["prompt_ids", "chosen_ids", "rejected_ids"])
    return dataset_of(table, label_columns(pairs))


STAGE = Stage(
    config=DpoConfig,
    run=run,
    produces="policy",
    version=10,
    trainer="DPOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 1e-5},  # ten times: Biderman et al. 2024
    data_forms=("preference",),
    is_distributed=True,
    splits="weights",
)
