"""What can be known to be wrong with the judges of a stage before anything is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.judge import AskedBlock, PrinciplesFile
from pipeline.config.judge_key import read_key
from pipeline.config.judge_principles import read_principles
from pipeline.errors import PosttrainError
from pipeline.recipe.checks.licences import judge_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.config.references import Location
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe


def asked_blocks(config: StageConfig) -> Iterator[tuple[Location, AskedBlock]]:
    """Yield the language models that a stage asks to judge or to revise, with their places."""
    yield from judge_blocks(config)
    revise = getattr(config, "revise", None)
    if isinstance(revise, AskedBlock):
        yield ("revise",), revise


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
