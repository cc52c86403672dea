"""What can be known to be wrong with a stage that trains, before its data or a model is looked at.

Names and values in `training_args` and `lora`, rows longer than the model has positions, evaluation
during training without anything to evaluate, adapters that cannot be combined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import lora, training_args
from pipeline.errors import PosttrainError
from pipeline.machine import may_have_gpu
from pipeline.model_files.layer_patterns import LAYERS, adapter_patterns, pattern_problem
from pipeline.recipe.checks.kto import check_kl_term
from pipeline.recipe.checks.reward_model import check_scalar_head
from pipeline.recipe.model_facts import (
    adapter_below,
    architecture_behind,
    has_tied_embeddings,
    num_positions,
)
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from pipeline.config.training_stage import TrainingStage
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe


_SMOOTH = {"robust", "exo_pair", "aot", "aot_unpaired"}  # losses that `label_smoothing` is for
# What to do where rows are longer than the model of an earlier stage has positions.
MORE_POSITIONS = "give the new model more: `sequence_length`, or `max_position_embeddings`"


def check_training(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Raise PosttrainError at the first thing that is wrong with a training stage."""
    _check_training_args(recipe, name, config)
    check_scalar_head(recipe, name, config)
    check_kl_term(recipe, name, config)
    _check_precision(recipe, name, config)
    _check_length(recipe, name, config)
    _check_evaluation(recipe, name, config)
    _check_lora(recipe, name, config)


def _check_training_args(recipe: Recipe, name: str, config: TrainingStage) -> None:
    trainer = stage_of(config.stage).trainer
    if trainer is None:
        return
    for key, value in config.training_args.items():
        problem = training_args.problem(key, value, trainer)
        if problem:
            where = recipe.document.where(("stages", name, "training_args", key), key=True)
            raise PosttrainError(where, *problem)
    apart = training_args.together_problem(trainer_arguments(recipe, config))
    if apart:
        raise recipe.error(("stages", name, "training_args", apart[0]), *apart[1:])
    losses = trainer_arguments(recipe, config).get("loss_type") or ()
    losses = {losses} if isinstance(losses, str) else set(losses)
    if (
        trainer == "DPOConfig"
        and "label_smoothing" in config.training_args
        and not losses & _SMOOTH
    ):
        where = recipe.document.where(
            ("stages", name, "training_args", "label_smoothing"), key=True
        )
        message = f"the loss {', '.join(f'`{loss}`' for loss in sorted(losses))} has no smoothing"
        hint = (
            "give the pairs a column `probability`, from 0.5 to 1, or write `loss_type: [robust]`"
        )
        raise PosttrainError(where, message, hint)


def _check_precision(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Refuse fp16 where there is no GPU: on a CPU upstream would train in fp32, silently."""
    is_on_cpu = config.training_args.get("use_cpu") is True or not may_have_gpu()
    if config.precision == "fp16" and is_on_cpu:
        message = "`precision` fp16 needs a GPU, and there is none to train on here"
        raise recipe.error(("stages", name, "precision"), message, "write bf16 or fp32")


def _check_length(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Refuse rows that are longer than the model of an earlier stage has positions."""
    model = getattr(config, "model", None)
    if not isinstance(model, str):
        return
    limit = num_positions(recipe, model)
    location: Location = ("training_args", "max_length")
    length = config.training_args.get("max_length")
    if length is None:
        location, length = ("sequence_length",), getattr(config, "sequence_length", None)
    if limit is not None and isinstance(length, int) and length > limit:
        message = f"`{location[-1]}` {length} is beyond the {limit} positions of `{model}`"
        hint = f"lower `{location[-1]}`"
        hint += f", or {MORE_POSITIONS}" if model.startswith("$") else ""
        raise recipe.error(("stages", name, *location), message, hint)


def _check_evaluation(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Refuse evaluation during training that has nothing to evaluate, or settings that need it."""
    location: Location = ("stages", name)
    evaluates = config.training_args.get("eval_strategy", "no") not in ("no", False)
    if not evaluates:
        best = "load_best_model_at_end"
        asking: list[Location] = [("training_args", best)] if config.training_args.get(best) else []
        asking += [("early_stopping",)] if config.early_stopping is not None else []
        if asking:
            message = f"`{asking[0][-1]}` needs evaluation during training"
            hint = "write `eval_strategy: steps` and `eval_steps` in `training_args`"
            raise recipe.error((*location, *asking[0]), message, hint)
        return
    kept = [
        block for block in config.sources if block.task is not None or block.holdout is not None
    ]
    if not config.eval_data and not kept:
        message = "`eval_strategy` is set, and there are no rows to evaluate on"
        hint = "write `holdout: 0.1` on the data, or `eval_data`"
        raise recipe.error((*location, "training_args", "eval_strategy"), message, hint)
    for number, block in enumerate(config.eval_data):
        for source in config.sources:
            is_same = block.file is not None and block.file == source.file
            if is_same and block.holdout != source.holdout:
                message = f"`{block.file}` is trained on too"
                hint = "give both the same `holdout`, or leave `eval_data` out"
                raise recipe.error((*location, "eval_data", number), message, hint)


def _check_lora(recipe: Recipe, name: str, config: TrainingStage) -> None:
    if config.lora is None:
        return
    location: Location = ("stages", name, "lora")
    for key, value in (config.lora.model_extra or {}).items():
        refusal = lora.problem(key, value)
        if refusal:
            where = recipe.document.where((*location, key), key=True)
            raise PosttrainError(where, *refusal)
    problem = pattern_problem(adapter_patterns(config.lora.fields()), LAYERS)
    earlier = adapter_below(recipe, config)
    if problem is None and earlier is not None:
        model = getattr(config, "model", None)
        kind = architecture_behind(recipe, model) if isinstance(model, str) else None
        problem = lora.chain_problem(config.lora, earlier, model_type=kind)
    is_tied = has_tied_embeddings(recipe, getattr(config, "model", None))
    problem = problem or lora.tied_problem(config.stage, config.lora, is_tied=is_tied)
    if problem:
        raise recipe.error(location, *problem)
