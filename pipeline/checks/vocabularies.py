"""Whether reward models and teachers have the policy's tokens, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.recipe.recipe import Recipe
    from pipeline.stages.rl.config import RolloutStage


def check_vocabularies(
    recipe: Recipe,
    name: str,
    config: RolloutStage,
    policy: Any,
    find: Callable[[str], Any],
) -> None:
    """Raise PosttrainError, with its place, for a model to which the policy's tokens are others.

    policy: its tokenizer. find: returns the tokenizer of a model, or None where it is not here yet.
    """
    from pipeline.rewards.vocabulary import check_teacher, check_vocabulary

    for number, term in enumerate(config.reward):
        for place, model in enumerate(term.models):
            own = find(model)
            if own is None:
                continue
            rows = max(len(own), len(policy))  # of its embedding, which is looked at with it
            try:
                check_vocabulary(f"reward `{term.label}`", own, policy, rows)
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                member = (place,) if term.is_ensemble else ()
                location = ("stages", name, "reward", number, "model", *member)
                raise recipe.error(location, message, hint) from error
    teacher = getattr(config, "teacher", None)
    own = None if teacher is None else find(teacher)
    if teacher is None or own is None:
        return
    try:
        check_teacher(teacher, own, policy)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise recipe.error(("stages", name, "teacher"), message, hint) from error
