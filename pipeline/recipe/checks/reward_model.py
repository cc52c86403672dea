"""What can be known to be wrong with reward models before one is loaded.

A reward model is a network with a scalar head, and not every causal model in transformers has a
variant with one. Where several are one reward, each needs a scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.references import LocalModel, StageOutput, model_source
from pipeline.config.trainer_fields import has_scalar_form
from pipeline.config.training_stage import TrainingStage
from pipeline.files.names import HELD_OUT
from pipeline.recipe.model_facts import architecture_behind, gives_scores

if TYPE_CHECKING:
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_SCALE = "write `scale: [[mean, deviation], ...]`; `evaluate` with `pairs` reports both"


def check_scalar_head(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Raise PosttrainError for an architecture that has no form with a scalar head."""
    model = getattr(config, "model", None)
    architecture = architecture_behind(recipe, model) if isinstance(model, str) else None
    if config.stage == "reward_model" and architecture and not has_scalar_form(architecture):
        message = f"{architecture} has no form with a scalar head in transformers"
        hint = "train the reward model from another architecture"
        raise recipe.error(("stages", name, "model"), message, hint)


def check_reward_models(recipe: Recipe, location: Location, term: RewardBlock) -> None:
    """Refuse a folder whose model gives no score, and a member of an ensemble without a scale.

    location: of the term. Models elsewhere are checked when they are loaded.
    """
    for number, model in enumerate(term.models):
        place = (*location, "model", *((number,) if term.is_ensemble else ()))
        if not model.startswith("$") and gives_scores(recipe, model) is False:
            message = f"`{model}` is a language model, here a reward model is needed"
            raise recipe.error(place, message, "train one with `stage: reward_model`")
        if not term.is_ensemble or term.scale or _has_scale(recipe, model):
            continue
        message = f"`{model}` has no held-out pairs, which its scale in the ensemble is taken from"
        hint = f"keep some apart with `holdout` in its `data`, or {_SCALE}"
        raise recipe.error(place, message, hint if model.startswith("$") else _SCALE)


def _has_scale(recipe: Recipe, model: str) -> bool:
    """Whether a reward model has, or will have, scores of held-out pairs."""
    try:
        source = model_source(model, recipe.places)
    except ValueError:  # an error where references are checked
        return True
    if isinstance(source, LocalModel):
        return (source.path / HELD_OUT).is_file()
    if not isinstance(source, StageOutput):
        return False
    from pipeline.data.reading.data_blocks import holds_pairs_out  # imports numpy

    config = recipe.stages[source.name]
    return not isinstance(config, TrainingStage) or holds_pairs_out(config)
