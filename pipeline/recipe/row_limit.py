"""How long the rows of a stage may be, as far as recipe and model folder say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.training_stage import TrainingOnRows
from pipeline.data.encoding.lengths import Limit, limit_of, prompt_limit
from pipeline.recipe.model_facts import num_positions
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of
from pipeline.stages.generate import GenerateConfig
from pipeline.stages.rl.config import RolloutStage

if TYPE_CHECKING:
    from pipeline.config.training_stage import TrainingStage
    from pipeline.recipe.recipe import Recipe


def row_limit(recipe: Recipe, config: TrainingStage | GenerateConfig) -> Limit:
    """Return the limit that a stage will read with; positions of hub models are unknown."""
    if isinstance(config, GenerateConfig):
        return config.prompt_limit(num_positions(recipe, config.model))
    arguments = trainer_arguments(recipe, config)
    if isinstance(config, RolloutStage):
        names = [config.model, getattr(config, "teacher", None)]
        of_models = [num_positions(recipe, name) for name in names if name is not None]
        known = min((limit for limit in of_models if limit is not None), default=None)
        if "prompt" not in stage_of(config.stage).forms_of(config):  # whole rows
            return prompt_limit(config.too_long, None, known)
        room = None if known is None else known - arguments["max_completion_length"]
        return prompt_limit(config.too_long, arguments.get("max_prompt_length"), room)
    if not isinstance(config, TrainingOnRows):
        return Limit(None)
    model = getattr(config, "model", None)
    known = num_positions(recipe, model) if isinstance(model, str) else None
    return limit_of(config, arguments["max_length"], known)
