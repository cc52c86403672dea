"""What can be known to be wrong with a choice of the best before what is chosen from has run.

All of a sweep would be computed for nothing if none of it measured the metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.training_stage import TrainingStage
from pipeline.data.reading.data_blocks import keeps_texts
from pipeline.errors import closest
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages.best import ChoiceConfig, direction_of
from pipeline.stages.pretrain import PretrainConfig

if TYPE_CHECKING:
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe

_BITS = "bits_per_byte"
_OF_PRETRAIN = ("loss", "eval_loss", _BITS, "train_seconds")


def check_choice(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, for a metric that a stage to choose from never has."""
    config = recipe.stages[name]
    if not isinstance(config, ChoiceConfig):
        return
    for reference in config.models:
        problem = _problem(recipe, recipe.stages[reference[1:]], config.by)
        if problem is not None:
            message = f"`{reference[1:]}` will have no metric `{config.by}`: {problem[0]}"
            raise recipe.error(("stages", name, "by"), message, problem[1])


def _problem(recipe: Recipe, config: StageConfig, metric: str) -> tuple[str, str] | None:
    """Return why a stage will not have a metric, and what to do; None where it may."""
    first, _, source = metric.partition(" ")
    if first == "eval_loss" and isinstance(config, TrainingStage):
        strategy = str(trainer_arguments(recipe, config).get("eval_strategy", "no"))
        hint = "set `eval_strategy` in its `training_args`, or choose by another"
        return ("it does not evaluate while it trains", hint) if strategy == "no" else None
    if not isinstance(config, PretrainConfig):
        return None
    if first == _BITS:
        return _unread(recipe, config, source)
    if direction_of(metric) is not None and first not in _OF_PRETRAIN:
        return "pre-training measures no such thing", f"choose by {_BITS} or loss"
    return None


def _unread(recipe: Recipe, config: PretrainConfig, source: str) -> tuple[str, str] | None:
    """Return why no held-out text, or none of a source, will be read."""
    try:
        labels = [block.label for block in config.data if keeps_texts(block, recipe.places)]
    except ValueError:  # whoever loads the task says what is wrong
        return None
    if not labels:
        return "none of its text is held out", "give a source `holdout: 0.05`, or choose by loss"
    if source and source not in labels:
        hint = closest(source, labels) or f"it has {', '.join(labels)}"
        return f"it holds out no text of `{source}`", hint
    return None
