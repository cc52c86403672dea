"""What can be known to be wrong with a `reward_model` stage before a model is loaded.

A reward model is a network with a scalar head, and not every causal model in transformers has a
variant with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.trainer_fields import has_scalar_form
from pipeline.recipe.model_facts import architecture_behind

if TYPE_CHECKING:
    from pipeline.config.training_stage import TrainingStage
    from pipeline.recipe.recipe import Recipe


def check_scalar_head(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Raise PosttrainError for an architecture that has no form with a scalar head."""
    model = getattr(config, "model", None)
    architecture = architecture_behind(recipe, model) if isinstance(model, str) else None
    if config.stage == "reward_model" and architecture and not has_scalar_form(architecture):
        message = f"{architecture} has no form with a scalar head in transformers"
        hint = "train the reward model from another architecture"
        raise recipe.error(("stages", name, "model"), message, hint)
