"""What can be known to be wrong with a stage that trains, before its data or a model is looked at.

Names and values of `training_args` and `lora`, rows longer than the model, evaluation during
training without anything to evaluate, adapters that cannot be combined.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from pipeline.config import lora, training_args
from pipeline.config.references import LocalModel, model_source
from pipeline.config.trainer_fields import architecture_fields, positions_field
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError
from pipeline.files.plain_files import other_than_a_file
from pipeline.machine import may_have_gpu
from pipeline.model_files.layer_patterns import LAYERS, adapter_patterns, pattern_problem
from pipeline.recipe.checks.rewards import architecture_behind, check_scalar_head
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe


_SMOOTH = {"robust", "exo_pair", "aot", "aot_unpaired"}  # losses that `label_smoothing` is for
# What to do where rows are longer than the model of an earlier stage has positions.
MORE_POSITIONS = "give the new model more: `sequence_length`, or `max_position_embeddings`"


def check_training(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Raise PosttrainError at the first thing that is wrong with a training stage."""
    _check_training_args(recipe, name, config)
    check_scalar_head(recipe, name, config)
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
    apart = training_args.together_problem(settings(recipe, config))
    if apart:
        raise recipe.error(("stages", name, "training_args", apart[0]), *apart[1:])
    losses = settings(recipe, config).get("loss_type") or ()
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
    limit = positions(recipe, model)
    location: Location = ("training_args", "max_length")
    length = config.training_args.get("max_length")
    if length is None:
        location, length = ("sequence_length",), getattr(config, "sequence_length", None)
    if limit is not None and isinstance(length, int) and length > limit:
        message = f"`{location[-1]}` {length} is beyond the {limit} positions of `{model}`"
        hint = f"lower `{location[-1]}`"
        hint += f", or {MORE_POSITIONS}" if model.startswith("$") else ""
        raise recipe.error(("stages", name, *location), message, hint)


def positions(recipe: Recipe, model: str) -> int | None:
    """Return how many positions the model of a stage has, where the recipe or its folder says."""
    if not model.startswith("$"):
        return _positions_in(_json_beside(recipe, model, "config.json") or {})
    config = recipe.stages[model[1:]]
    earlier = getattr(config, "model", None)
    return positions(recipe, earlier) if isinstance(earlier, str) else config.max_positions


def _positions_in(config: Mapping[str, Any]) -> int | None:
    """Return how many positions a config.json says, by the name its model type has for them."""
    inner = config.get("text_config")
    text = cast("Mapping[str, Any]", inner) if isinstance(inner, dict) else config
    try:
        name = positions_field(str(text.get("model_type")))
    except ValueError:  # a model type that transformers does not have
        return None
    count = text.get(name) if name else None
    return count if isinstance(count, int) and count > 0 else None


def _check_evaluation(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Refuse evaluation during training that has nothing to evaluate, or is never made use of."""
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
    earlier = _adapter_below(recipe, config)
    if problem is None and earlier is not None:
        model = getattr(config, "model", None)
        kind = architecture_behind(recipe, model) if isinstance(model, str) else None
        problem = lora.chain_problem(config.lora, earlier, model_type=kind)
    is_tied = _is_tied(recipe, getattr(config, "model", None))
    problem = problem or lora.tied_problem(config.stage, config.lora, is_tied=is_tied)
    if problem:
        raise recipe.error(location, *problem)


def _adapter_below(recipe: Recipe, config: StageConfig) -> Mapping[str, Any] | None:
    """Return the LoraConfig's fields of the adapter that a stage goes on from, if there is one."""
    model = getattr(config, "model", None)
    if not isinstance(model, str):
        return None
    if not model.startswith("$"):
        return _json_beside(recipe, model, "adapter_config.json")
    earlier = recipe.stages[model[1:]]
    if isinstance(earlier, TrainingStage) and earlier.lora is not None:
        return earlier.lora.fields()
    return None


def _is_tied(recipe: Recipe, model: Any) -> bool:
    """Whether a model's input and output embeddings are known to be one."""
    if isinstance(model, str) and model.startswith("$"):
        return _is_tied(recipe, getattr(recipe.stages[model[1:]], "model", None))
    if isinstance(model, str):
        config_json = _json_beside(recipe, model, "config.json")
        if config_json is None:
            return False  # an adapter or a hub model; it is looked at before training
        return bool(config_json.get("tie_word_embeddings"))
    fields = getattr(model, "fields", None)
    return bool(fields and fields().get("tie_word_embeddings"))


def _json_beside(recipe: Recipe, model: str, file: str) -> Mapping[str, Any] | None:
    """Return what a file of a local model folder says; None where there is none, or no mapping."""
    try:
        source = model_source(model, recipe.places)
        if not isinstance(source, LocalModel):
            return None
        if other_than_a_file(source.path / file) is not None:
            return None
        contents = json.loads((source.path / file).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    return contents if isinstance(contents, dict) else None  # pyright: ignore[reportUnknownVariableType]


def settings(recipe: Recipe, config: TrainingStage) -> dict[str, Any]:
    """Return a stage's arguments over our defaults."""
    return {**defaults(recipe, config), **training_args.with_new_names(config.training_args)}


def defaults(recipe: Recipe, config: TrainingStage) -> dict[str, Any]:
    """Return our defaults for a stage of a recipe.

    Where `max_length` is not given, rows are at most as long as the model has positions.
    """
    values = stage_of(config.stage).defaults(config)
    model = getattr(config, "model", None)
    if "max_length" in values:
        values["max_length"] = positions(recipe, model) if isinstance(model, str) else None
    return values


def is_dense(recipe: Recipe, config: TrainingStage) -> bool:
    """Whether a stage's model is known to be no mixture of experts, which has a loss of routers."""
    model = getattr(config, "model", None)
    kind = architecture_behind(recipe, model) if isinstance(model, str) else None
    if kind is None:
        return False
    try:
        return "router_aux_loss_coef" not in architecture_fields(kind)
    except ValueError:  # a model type that transformers does not have
        return False
