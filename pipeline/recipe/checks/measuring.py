"""What can be known to be wrong with a stage that measures, before a model is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.measuring_stage import MeasuringStage
from pipeline.config.reward_signature import check_reward_function
from pipeline.config.reward_terms import ALL_TASKS
from pipeline.errors import closest
from pipeline.recipe.checks.reward_model import check_reward_models
from pipeline.recipe.model_facts import gives_scores, num_positions
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.reward_terms import RewardBlock
    from pipeline.recipe.recipe import Recipe


def check_measuring(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError for a window of text that a model has no positions for.

    Stages of a different kind have nothing to check.
    """
    config = recipe.stages[name]
    _check_entrants(recipe, name)
    if isinstance(config, MeasuringStage):
        _check_kinds(recipe, name, config)
        sources = [block.label for block in config.prompts]
        tasks = [block.label for block in config.prompts if block.task is not None]
        check_rewards(recipe, name, "rewards", config.rewards, sources, tasks)
    window = getattr(config, "window", None)
    if not isinstance(window, int):
        return
    entrants = (getattr(config, key, None) for key in ("model", "baseline"))
    named = [entrant for entrant in entrants if isinstance(entrant, str)]
    for entrant in (*named, *getattr(config, "candidates", ())):
        limit = num_positions(recipe, entrant) if _is_a_model(recipe, entrant) else None
        if limit is not None and window > limit:
            message = f"`window` {window} is beyond the {limit} positions of `{entrant}`"
            raise recipe.error(("stages", name, "window"), message, "lower it")


def check_rewards(
    recipe: Recipe,
    name: str,
    key: str,
    rewards: Sequence[RewardBlock],
    sources: Sequence[str] | None,
    tasks: Sequence[str],
) -> None:
    """Refuse a reward that applies to no prompt, does not exist, or repeats an earlier name.

    key: where the rewards stand. sources: of the prompts; None where they are not known. tasks:
    those among them.
    """
    for number, reward in enumerate(rewards):
        location = ("stages", name, key, number)
        check_reward_models(recipe, location, reward)
        if reward.use is not None:
            try:
                check_reward_function(reward.use, recipe.places.base)
            except ValueError as error:
                raise recipe.error((*location, "use"), str(error)) from error
        known, named = (tasks, reward.verify) if reward.verify else (sources, reward.on)
        for task in named:
            if known is not None and task not in known and task != ALL_TASKS:
                what = "task" if reward.verify else "source"
                hint = closest(task, known) or f"there are {', '.join(known) or 'none'}"
                message = f"`{task}` is no {what} of these prompts"
                raise recipe.error((*location, "verify" if reward.verify else "on"), message, hint)
        if known is not None and not any(reward.is_for(source, tasks) for source in known):
            message = "none of the prompts is a task's, so there is nothing to verify"
            raise recipe.error((*location, "verify"), message, "write `{task: NAME}` in `prompts`")
        if reward.label in [one.label for one in rewards[:number]]:
            message = f"two rewards are called `{reward.label}`"
            raise recipe.error(location, message, "give one of them another `name`")


def _check_entrants(recipe: Recipe, name: str) -> None:
    """Refuse a comparison that names a model twice, or has nothing to ask the models it names."""
    config = recipe.stages[name]
    baseline = getattr(config, "baseline", None)
    if baseline is None:
        return
    entrants: list[str] = [baseline, *getattr(config, "candidates", ())]
    twice = next((entrant for entrant in entrants if entrants.count(entrant) > 1), None)
    if twice is not None:
        message = f"`{twice}` is named twice"
        raise recipe.error(("stages", name, "candidates"), message, "name each model once")
    if not getattr(config, "asks", True) and any(
        _is_a_model(recipe, entrant) for entrant in entrants
    ):
        message = "there is nothing to ask the models"
        hint = "name `tasks`, `texts` or `harness`, for reward models `pairs`"
        raise recipe.error(("stages", name), message, hint)


def _check_kinds(recipe: Recipe, name: str, config: MeasuringStage) -> None:
    """Refuse a language model where pairs are ranked, and a reward model where answers are asked.

    Models on the hub are checked when they are loaded.
    """
    for location, entrant in _entrants(config):
        is_reward_model = _gives_scores(recipe, entrant)
        if config.pairs and is_reward_model is False:
            message = f"`{entrant}` is a language model, and `pairs` are ranked by a reward model"
            hint = "`texts:` says which response of a pair a language model finds likelier"
            raise recipe.error(("stages", name, *location), message, hint)
        if not config.pairs and is_reward_model:
            message = f"`{entrant}` is a reward model, which answers nothing"
            hint = "name `pairs` that it ranks, or a language model"
            raise recipe.error(("stages", name, *location), message, hint)


def _entrants(config: MeasuringStage) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the models that a stage measures, with the places where they stand."""
    named = [((key,), getattr(config, key, None)) for key in ("model", "baseline")]
    found = [(place, value) for place, value in named if isinstance(value, str)]
    candidates: tuple[str, ...] = getattr(config, "candidates", ())
    return [*found, *((("candidates", n), value) for n, value in enumerate(candidates))]


def _gives_scores(recipe: Recipe, entrant: str) -> bool | None:
    """Whether a model is a reward model; None where that is not known, and of an evaluation."""
    if entrant.startswith("$"):
        made = stage_of(recipe.stages[entrant[1:]].stage).produces
        return {"policy": False, "reward_model": True}.get(made)
    return gives_scores(recipe, entrant)


def _is_a_model(recipe: Recipe, entrant: str) -> bool:
    """Whether this names a model, not a stage with results of a model."""
    if not entrant.startswith("$"):
        return True
    return stage_of(recipe.stages[entrant[1:]].stage).produces != "evaluation"
