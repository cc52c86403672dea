"""What can be known to be wrong with the judges of a stage before anything is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.judge import AskedBlock, PrinciplesFile
from pipeline.config.judge_key import read_key
from pipeline.config.judge_principles import read_principles
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.config.references import Location
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe


def asked_blocks(config: StageConfig) -> Iterator[tuple[Location, AskedBlock]]:
    """Yield the language models that a stage asks to judge or to revise, with their places."""
    for key in ("judge", "revise"):
        block = getattr(config, key, None)
        if isinstance(block, AskedBlock):
            yield (key,), block
    for key in ("reward", "rewards"):
        terms: tuple[RewardBlock, ...] = getattr(config, key, ())
        for number, term in enumerate(terms):
            if term.judge is not None:
                yield (key, number, "judge"), term.judge


def check_judges(recipe: Recipe, names: Iterable[str]) -> None:
    """Raise PosttrainError, with its place, for a key that is not set and for bad principles.

    names: of the stages that are to run: one that has run needs no key any more.
    """
    for name in names:
        for location, block in asked_blocks(recipe.stages[name]):
            place = ("stages", name, *location)
            if block.endpoint is not None and block.endpoint.key is not None:
                try:
                    read_key(block.endpoint.key)
                except PosttrainError as error:
                    where = (*place, "endpoint", "key")
                    raise recipe.error(where, error.message, error.hint) from None
            principles = getattr(block, "principles", ())
            if isinstance(principles, PrinciplesFile):
                read_principles(principles, recipe.places)
