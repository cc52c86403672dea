"""What can be known to be wrong with a `reward_model` stage before a model is loaded.

A reward model is a network with a scalar head, and not every causal model of transformers has a
form with one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.config.references import LocalModel, adapter_base, model_source
from pipeline.config.trainer_fields import has_scalar_form
from pipeline.stages.pretrain import NewModelBlock

if TYPE_CHECKING:
    from pathlib import Path

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


def architecture_behind(recipe: Recipe, model: str) -> str | None:
    """Return the model type behind a reference; None where the recipe does not say (the hub)."""
    try:
        source = model_source(model, recipe.places)
        if isinstance(source, LocalModel):
            base = adapter_base(source.path)
            source = source if base is None else base
    except ValueError:  # said where references are checked
        return None
    if isinstance(source, LocalModel):
        return _model_type(source.path)
    earlier = recipe.stages.get(model.removeprefix("$"))
    before = getattr(earlier, "model", None)
    if isinstance(before, NewModelBlock):
        return before.architecture
    return architecture_behind(recipe, before) if isinstance(before, str) else None


def _model_type(folder: Path) -> str | None:
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # said of the folder
        return None
    return model_type if isinstance(model_type, str) else None
