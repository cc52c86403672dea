"""What can be known to be wrong with a stage that measures, before a model is looked at."""

from typing import TYPE_CHECKING

from pipeline.recipe.train_checks import positions
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from pipeline.recipe.load import Recipe


def check_measuring(recipe: "Recipe", name: str) -> None:
    """Raise PosttrainError for a window of text that a model has no positions for.

    Other stages have nothing to check.
    """
    config = recipe.stages[name]
    _check_entrants(recipe, name)
    window = getattr(config, "window", None)
    if not isinstance(window, int):
        return
    entrants = (getattr(config, key, None) for key in ("model", "baseline"))
    named = [each for each in entrants if isinstance(each, str)]
    for each in (*named, *getattr(config, "candidates", ())):
        limit = positions(recipe, each) if _is_a_model(recipe, each) else None
        if limit is not None and window > limit:
            message = f"`window` {window} is beyond the {limit} positions of `{each}`"
            raise recipe.error(("stages", name, "window"), message, "lower it")


def _check_entrants(recipe: "Recipe", name: str) -> None:
    """Refuse a comparison that names a model twice, or has nothing to ask the models it names."""
    config = recipe.stages[name]
    baseline = getattr(config, "baseline", None)
    if baseline is None:
        return
    entrants: list[str] = [baseline, *getattr(config, "candidates", ())]
    twice = next((each for each in entrants if entrants.count(each) > 1), None)
    if twice is not None:
        message = f"`{twice}` is named twice"
        raise recipe.error(("stages", name, "candidates"), message, "name each model once")
    if not getattr(config, "asks", True) and any(_is_a_model(recipe, each) for each in entrants):
        message = "there is nothing to ask the models"
        raise recipe.error(("stages", name), message, "name `tasks`, `texts` or `harness`")


def _is_a_model(recipe: "Recipe", entrant: str) -> bool:
    """Whether this names a model, and not a stage's results of asking one."""
    if not entrant.startswith("$"):
        return True
    return stage_of(recipe.stages[entrant[1:]].stage).produces != "evaluation"
