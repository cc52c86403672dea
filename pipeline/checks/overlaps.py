"""Test items among training rows: local files compared with what later stages ask, before a run.

What lies on the hub is compared when its stage runs, by the same Screen. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.blocks import DataBlock
from pipeline.config.training_stage import TrainingStage
from pipeline.data.reading.data_blocks import read_marked_records
from pipeline.data.screening.evaluation_items import Evaluation
from pipeline.data.screening.screen import Screen
from pipeline.plan.followers import decontaminate_of, measuring_stages
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pipeline.recipe.recipe import Recipe


def evaluations_of(recipe: Recipe, name: str) -> list[Evaluation]:
    """Return what the stages ask that measure what a stage makes.

    Without rows that stages make: those may be made of the very model, after it.
    """
    return [_evaluation(later, recipe.stages[later]) for later in measuring_stages(recipe, name)]


def stages_to_compare(recipe: Recipe, pending: Collection[str]) -> list[str]:
    """Return training stages whose rows are compared before anything runs.

    Those that refuse test items, and those that are there already and are asked something new; the
    others compare their rows as they read them.
    """
    return [
        name
        for name in recipe.stages
        if (name in pending and decontaminate_of(recipe, name) == "error")
        or (
            name not in pending
            and any(later in pending for later in measuring_stages(recipe, name))
        )
    ]


def check_overlaps(recipe: Recipe, names: Sequence[str]) -> Iterator[str]:
    """Compare the local files of training stages with what is asked later; yield what they share.

    Raises PosttrainError where there are test items and the recipe refuses them. What lies on the
    hub is not fetched.
    """
    for name in names:
        config = recipe.stages[name]
        evaluations = evaluations_of(recipe, name)
        if not isinstance(config, TrainingStage) or not evaluations:
            continue
        made = recipe.places.made
        blocks = [
            block
            for block in config.sources
            if block.file is not None or (block.stage or "$")[1:] in made
        ]
        forms, policy = stage_of(config.stage).forms_of(config), decontaminate_of(recipe, name)
        screen = Screen(policy, evaluations, blocks, recipe.places, reads_hub=False)
        for block in dict.fromkeys(block.model_dump_json() for block in blocks):
            source = DataBlock.model_validate_json(block)
            for _ in screen(source, read_marked_records(source, recipe.places, forms)):
                pass
        if blocks:
            yield from (f"{name}: {line}" for line in screen.lines(says_none=True))


def _evaluation(name: str, config: Any) -> Evaluation:
    def blocks(field: str) -> tuple[DataBlock, ...]:
        values = getattr(config, field, ())
        return tuple(b for b in values if isinstance(b, DataBlock) and b.stage is None)

    return Evaluation(
        stage=name,
        tasks=tuple(getattr(config, "tasks", ())),
        texts=blocks("texts"),
        prompts=blocks("prompts"),
        pairs=blocks("pairs"),
        limit=config.limit,
        harness=tuple(getattr(config, "harness", ())),
    )
