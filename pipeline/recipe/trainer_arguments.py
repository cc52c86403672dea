"""What a training stage passes to its trainer: the arguments of the recipe over our defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config import training_args
from pipeline.recipe.model_facts import num_positions
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from pipeline.config.training_stage import TrainingStage
    from pipeline.recipe.recipe import Recipe


def trainer_arguments(recipe: Recipe, config: TrainingStage) -> dict[str, Any]:
    """Return a stage's arguments over our defaults."""
    return {
        **default_arguments(recipe, config),
        **training_args.with_new_names(config.training_args),
    }


def default_arguments(recipe: Recipe, config: TrainingStage) -> dict[str, Any]:
    """Return our defaults for a stage of a recipe.

    Where `max_length` is not given, rows are at most as long as the model has positions.
    """
    values = stage_of(config.stage).defaults(config)
    model = getattr(config, "model", None)
    if "max_length" in values:
        values["max_length"] = num_positions(recipe, model) if isinstance(model, str) else None
    return values
