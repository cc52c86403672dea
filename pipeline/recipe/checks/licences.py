"""What can be known to be wrong with licences before anything runs, and what is to be said of them.

A judge or a reward model is examined on pairs that people labelled before it counts
(pipeline/rewards/licence.py). The pairs must be there, and nobody is examined on what it learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.licence import LicenceBlock, no_pairs
from pipeline.config.training_stage import TrainingOnData
from pipeline.data.reading.labelled_pairs import has_pairs
from pipeline.stages.judgements import JudgementsConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.config.judge import JudgeBlock
    from pipeline.config.references import Location
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe

_TERMS = ("reward", "rewards")


def licence_blocks(config: StageConfig) -> Iterator[tuple[Location, LicenceBlock]]:
    """Yield the sources of pairs that a stage's licences name, with their places in the stage."""
    for location, term in reward_terms(config):
        if isinstance(term.licence, LicenceBlock):
            yield (*location, "licence"), term.licence
    for location, block in judge_blocks(config):
        if isinstance(block.licence, LicenceBlock):
            yield (*location, "licence"), block.licence


def judge_blocks(config: StageConfig) -> Iterator[tuple[Location, JudgeBlock]]:
    """Yield the judges of a stage, with their places in it."""
    for location, term in reward_terms(config):
        if term.judge is not None:
            yield (*location, "judge"), term.judge
    judge: JudgeBlock | None = getattr(config, "judge", None)
    if judge is not None:
        yield ("judge",), judge


def check_judge(
    recipe: Recipe, location: Location, name: str, block: JudgeBlock, tasks: Sequence[str]
) -> None:
    """Refuse a judge that will label or reward, and that nobody labelled pairs for.

    location: of its block. tasks: among the prompts whose responses it judges.
    """
    if block.licence is not None:
        return
    for task in tasks:
        try:
            if has_pairs(task, recipe.places):
                return
        except ValueError:  # whoever loads the task says what is wrong
            return
    raise recipe.error(location, *no_pairs(name))


def reward_terms(config: StageConfig) -> Iterator[tuple[Location, RewardBlock]]:
    """Yield the reward terms of a stage, with their places in it."""
    for key in _TERMS:
        terms: tuple[RewardBlock, ...] = getattr(config, key, ())
        for number, term in enumerate(terms):
            yield (key, number), term


def check_licences(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, for an exam on the pairs that a model learnt from."""
    for location, licence, models in _exams(recipe.stages[name]):
        for model in (model for model in models if model.startswith("$")):
            if any(_is_learnt(licence, block) for block in _learnt_by(recipe, model[1:])):
                message = f"`{model}` learnt from these pairs, and is examined on them"
                hint = "keep a part out with the same `holdout` in both places, or name other pairs"
                raise recipe.error(("stages", name, *location, "licence"), message, hint)


def _exams(config: StageConfig) -> Iterator[tuple[Location, LicenceBlock, Sequence[str]]]:
    """Yield the named pairs of a stage's exams, with who is examined on them."""
    for location, term in reward_terms(config):
        if isinstance(term.licence, LicenceBlock):
            yield location, term.licence, term.models
    for location, block in judge_blocks(config):
        if isinstance(block.licence, LicenceBlock) and block.model is not None:
            yield location, block.licence, (block.model,)


def _learnt_by(recipe: Recipe, name: str) -> Iterator[DataBlock]:
    """Yield what a stage trains on; of questions made of pairs, the pairs."""
    trained = recipe.stages.get(name)
    if isinstance(trained, TrainingOnData | JudgementsConfig):
        for block in trained.sources:
            yield block
            made = recipe.stages.get(block.stage[1:]) if block.stage is not None else None
            if isinstance(made, JudgementsConfig):
                yield from made.sources


def _is_learnt(licence: LicenceBlock, data: DataBlock) -> bool:
    """Whether a model was trained on the rows that it is to be examined on."""
    named = (licence.file, licence.hub, licence.stage)
    if named != (data.file, data.hub, data.stage) or licence.task is not None:
        return False
    if licence.hub is not None:
        return (licence.subset, licence.split) == (data.subset, data.split)
    return data.holdout is None or licence.holdout != data.holdout
