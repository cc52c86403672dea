"""Which stages measure what a training stage makes, and what they ask.

The training stage's rows are compared with that (checks/overlaps.py). Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.training_stage import TrainingStage

if TYPE_CHECKING:
    from pipeline.config.field_types import Decontaminate
    from pipeline.recipe.recipe import Recipe

# What of a measuring stage's settings says which items it asks, and how many of each.
ASKED = ("tasks", "texts", "prompts", "pairs", "limit")
_BY_NAME = ("tasks", "harness")


def measuring_stages(recipe: Recipe, name: str) -> list[str]:
    """Return the stages that ask a model in whose making a stage took part."""
    return [
        stage
        for stage, config in recipe.stages.items()
        if name in recipe.built_on[stage]
        and not isinstance(config, TrainingStage)
        and _asks(config)
    ]


def decontaminate_of(recipe: Recipe, name: str) -> Decontaminate:
    """Return what becomes of a stage's rows that hold test items."""
    return getattr(recipe.stages[name], "decontaminate", None) or recipe.decontaminate


def _asks(config: Any) -> bool:
    """Whether a stage asks what may not be trained on; `generate` asks what may."""
    fields = (*_BY_NAME, *(field for field in ASKED if field in config.measured_on))
    return any(getattr(config, field, ()) for field in fields if field not in config.trained_on)
