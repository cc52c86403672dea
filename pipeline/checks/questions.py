"""Whether tasks have the items and the demonstrations that a recipe asks for. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.measuring_stage import MeasuringStage
from pipeline.config.references import StageOutput, model_source
from pipeline.data.reading.tasks import FileRows, load_task, task_rows
from pipeline.stages.pretrain import PretrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.recipe.recipe import Recipe


def check_questions(recipe: Recipe, names: Iterable[str]) -> None:
    """Raise PosttrainError for a task without items, or with too few examples to show.

    Of benchmarks whose rows are on the hub nothing is known yet.
    """
    asked: set[tuple[object, ...]] = set()  # stages of a sweep ask the same: once is enough
    for name in names:
        config = recipe.stages[name]
        if not isinstance(config, MeasuringStage):
            continue
        seed = recipe.seed if config.seed is None else config.seed
        for number, task in enumerate(config.tasks):
            rows = task_rows(task, recipe.places)
            if not all(isinstance(source, FileRows) for source in rows.values()):
                continue
            try:
                _ask(recipe, config, task, seed, asked)
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                raise recipe.error(("stages", name, "tasks", number), message, hint) from error


def _ask(
    recipe: Recipe, config: MeasuringStage, name: str, seed: int, asked: set[tuple[object, ...]]
) -> None:
    """Have a task find the items that a stage asks, unless another has asked for the same."""
    from eval.asking.run import check_questions

    form = "document" if _is_base(recipe, config) else "chat"
    shown = (config.styles, config.shots, config.names_few_shot)
    question = (name, config.limit, seed, form, *shown)
    if question in asked:
        return
    asked.add(question)
    task = load_task(name, recipe.places)
    check_questions(
        task,
        limit=config.limit,
        styles=config.styles,
        shots=config.shots,
        seed=seed,
        form=form,
        needs_few_shot=config.names_few_shot,
    )


def _is_base(recipe: Recipe, config: MeasuringStage) -> bool:
    """Whether a stage of the recipe has only pre-trained one of the measured models."""
    named = [getattr(config, key, None) for key in ("model", "baseline")]
    for reference in (*named, *getattr(config, "candidates", ())):
        source = model_source(reference, recipe.places) if isinstance(reference, str) else None
        if isinstance(source, StageOutput):
            stage = recipe.stages[source.name]
            if isinstance(stage, PretrainConfig) or getattr(config, "form", None) == "document":
                return True
    return False
