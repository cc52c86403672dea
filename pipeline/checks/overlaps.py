"""A training stage's rows held against what later stages ask: in a worker, and by `check`.

Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.blocks import DataBlock
from pipeline.config.training_stage import TrainingStage
from pipeline.data.reading.blocks import read_marked_records
from pipeline.data.screening.evaluation_items import Evaluation
from pipeline.data.screening.screen import Screen
from pipeline.plan.followers import decontaminate_of, measured_by
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pipeline.config.references import Places
    from pipeline.recipe.recipe import Recipe


def evaluations_of(recipe: Recipe, name: str) -> list[Evaluation]:
    """Return what the stages ask that measure what a stage makes."""
    return [_evaluation(each, recipe.stages[each]) for each in measured_by(recipe, name)]


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON for the worker."""
    blocks = {
        field: [block.model_dump(mode="json", exclude_unset=True) for block in given]
        for field, given in (("texts", evaluation.texts), ("prompts", evaluation.prompts))
    }
    return {
        "stage": evaluation.stage,
        "tasks": list(evaluation.tasks),
        **blocks,
        "limit": evaluation.limit,
        "harness": list(evaluation.harness),
    }


def screen_of(request: Mapping[str, Any], config: TrainingStage, places: Places) -> Screen:
    """Return the screen of a stage that a worker was asked to run."""
    evaluations = [
        Evaluation(
            stage=given["stage"],
            tasks=tuple(given["tasks"]),
            texts=tuple(DataBlock.model_validate(block) for block in given["texts"]),
            prompts=tuple(DataBlock.model_validate(block) for block in given["prompts"]),
            limit=given["limit"],
            harness=tuple(given["harness"]),
        )
        for given in request["measured_by"]
    ]
    return Screen(request["decontaminate"], evaluations, config.sources, places)


def to_hold_against(recipe: Recipe, pending: Collection[str]) -> list[str]:
    """Return training stages whose rows are compared before anything runs.

    Those that refuse test items, and those that are there already and are asked something new; the
    others compare their rows as they read them.
    """
    return [
        name
        for name in recipe.stages
        if (name in pending and decontaminate_of(recipe, name) == "error")
        or (name not in pending and any(each in pending for each in measured_by(recipe, name)))
    ]


def check_overlaps(recipe: Recipe, names: Sequence[str]) -> Iterator[str]:
    """Hold the local files of training stages against what is asked later; yield what is found.

    Raises PosttrainError where test items are found and the recipe refuses them. What lies on the
    hub is not fetched: it is compared when the stage runs.
    """
    for name in names:
        config = recipe.stages[name]
        evaluations = evaluations_of(recipe, name)
        if not isinstance(config, TrainingStage) or not evaluations:
            continue
        blocks = [block for block in config.sources if block.file is not None]
        forms, policy = stage_of(config.stage).data_forms, decontaminate_of(recipe, name)
        screen = Screen(policy, evaluations, blocks, recipe.places, reads_hub=False)
        for block in dict.fromkeys(block.model_dump_json() for block in blocks):
            source = DataBlock.model_validate_json(block)
            for _ in screen(source, read_marked_records(source, recipe.places, forms)):
                pass
        if blocks:
            yield from (f"{name}: {line}" for line in screen.lines(says_none=True))


def _evaluation(name: str, config: Any) -> Evaluation:
    def blocks(field: str) -> tuple[DataBlock, ...]:
        given = getattr(config, field, ())
        return tuple(block for block in given if isinstance(block, DataBlock))

    return Evaluation(
        stage=name,
        tasks=tuple(getattr(config, "tasks", ())),
        texts=blocks("texts"),
        prompts=blocks("prompts"),
        limit=config.limit,
        harness=tuple(getattr(config, "harness", ())),
    )
