"""Stage `dpo`: direct preference optimisation on pairs of responses, through TRL's DPOTrainer.

Rafailov et al. 2023, and every other loss of TRL's (`training_args: {loss_type: [ipo]}`; losses
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
    from collections.abc import Sequence

    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.encoding.pairs import EncodedPair, PairsReport
    from pipeline.data.reading.records import Record
    from pipeline.models.chat_templates import Begun
    from pipeline.training.dpo_trainer import EncodedDpoTrainer

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 1e-6,
    "beta": 0.1,
    "loss_type": ["sigmoid"],
}
_CARRIED = ("_metrics", "_total_train_tokens")


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

    from eval.model import positions_of
    from pipeline.data.encoding.lengths import limit_of
    from pipeline.data.mixing import row_mixture, share_metrics
    from pipeline.data.training_sources import row_sources
    from pipeline.models.chat_templates import begun
    from pipeline.models.dropout import without_dropout
    from pipeline.models.forms import form_of_rows, form_properties
    from pipeline.models.save import save_trained
    from pipeline.models.training import check_length, load_reference, within_positions
    from pipeline.training.arguments import arguments, refusals
    from pipeline.training.loop import train
    from pipeline.training.policy_metrics import Aligned, initial_kl, loss_before, measured

    source = context.model(config.model)
    sources = row_sources(config.data, context.places, STAGE.data_forms, context.screen)
    rows, shares = row_mixture(sources, seed=context.seed)
    start = begun(source, config, rows, context.places, context.revisions)
    tokenizer, module = start.tokenizer, start.module
    args = arguments(
        DPOConfig, config, context, defaults=within_positions(STAGE.defaults(config), module)
    )
    check_length(args.max_length, module, source, context)
    limit = limit_of(config, args.max_length, positions_of(module.config))
    pairs, held_out, reports = _encoded(rows, config, context, tokenizer, args, limit)
    if "precompute_ref_log_probs" not in config.training_args:
        args.precompute_ref_log_probs = _saves_time(config, args, len(pairs))
    form = form_of_rows(tokenizer, rows)
    named = context.model(config.reference) if config.reference else None
    needs_copy = config.lora is None and not args.precompute_ref_log_probs
    if args.disable_dropout:  # upstream turns layers off, not rates that a network reads itself
        without_dropout(module, saved=[module])
    with refusals(context):
        # Else upstream reads the reference from disk by the model's name, without adapters.
        is_apart = named or needs_copy
        reference = (
            start.with_new_tokens(load_reference(named or source, config)) if is_apart else None
        )
        trainer = _trainer(start, reference, args, pairs, held_out, context)
    names = [pair.where for pair in pairs]
    aligned = Aligned(trainer, tokenizer, form, named or source, named is not None)
    metrics: dict[str, Any] = {"initial_kl": initial_kl(aligned, pairs) if context.is_main else 0.0}
    if context.is_main:
        metrics |= loss_before(aligned, held_out, context)
    metrics |= train(trainer, start.config, context, rows=names, carried=_CARRIED)
    properties: dict[str, Any] = {}
    if context.is_main:
        metrics = measured(aligned, held_out, pairs, context) | metrics
        saved, properties = save_trained(trainer.model, tokenizer, source, context.out)
        metrics |= saved
    return StageResult(
        metrics={
            **metrics,
            **reports[0].metrics(),
            **reports[1].held_out_metrics(),
            "rows_left_out_per_epoch": len(pairs) % config.batch_size,
            "reference_precomputed": bool(args.precompute_ref_log_probs),
            **share_metrics(shares, "pairs"),
            **start.template.metrics(),
        },
        properties={
            **form_properties(tokenizer, form),
            **properties,
        },
    )


def _trainer(
    start: Begun,
    reference: Any,
    args: Any,
    pairs: Sequence[EncodedPair],
    held_out: Sequence[EncodedPair],
    context: StageContext,
) -> EncodedDpoTrainer:
    """Return the trainer; reference: a model apart, None where the policy gives it itself."""
    from pipeline.models.training import peft_config
    from pipeline.training.dpo_trainer import EncodedDpoTrainer

    return EncodedDpoTrainer(
        model=start.module,
        ref_model=reference,
        args=args,
        train_dataset=_dataset(pairs),
        eval_dataset=_dataset(held_out) if held_out and args.eval_strategy != "no" else None,
        processing_class=start.tokenizer,
        peft_config=peft_config(start.config, "CAUSAL_LM"),
        on_reference=lambda done: context.progress("reference", done, len(pairs)),
    )


def _encoded(
    rows: Sequence[Record],
    config: DpoConfig,
    context: StageContext,
    tokenizer: PreTrainedTokenizerBase,
    args: Any,
    limit: Limit,
) -> tuple[list[EncodedPair], list[EncodedPair], tuple[PairsReport, PairsReport]]:
    """Return pairs to train on, held-out ones, and what became of both.

    Raises PosttrainError for a label of a pair that the loss has no use for.
    """
    from pipeline.data.encoding.pair_labels import check_labels
    from pipeline.data.encoding.pairs import encode_held_out_pairs, encode_pairs

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
    for pair in (*pairs, *held_out):
        label = {"probability": pair.probability, "margin": pair.margin}
        check_labels(vars(args), pair.where, **label)
    return pairs, held_out, (report, left_out)


def _saves_time(config: DpoConfig, args: Any, num_pairs: int) -> bool:
    """Whether computing the reference once costs less than at every step: pairs seen repeatedly."""
    if args.sync_ref_model:
        return False
    steps_an_epoch = num_pairs // config.batch_size
    steps = args.max_steps if args.max_steps > 0 else args.num_train_epochs * steps_an_epoch
    return steps > steps_an_epoch


def _dataset(pairs: Sequence[EncodedPair]) -> Dataset:
    from datasets import Dataset

    from pipeline.data.encoding.pairs import label_columns

    columns: dict[str, Any] = {
        "prompt_ids": [pair.prompt_ids for pair in pairs],
        "chosen_ids": [pair.chosen_ids for pair in pairs],
        "rejected_ids": [pair.rejected_ids for pair in pairs],
        "row": list(range(len(pairs))),
    }
    return Dataset.from_dict(columns | label_columns(pairs))


STAGE = Stage(
    config=DpoConfig,
    run=run,
    produces="policy",
    version=4,
    trainer="DPOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 1e-5},  # ten times: Biderman et al. 2024
    data_forms=("preference",),
    is_distributed=True,
)
