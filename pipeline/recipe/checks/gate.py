"""Whether a gate names what its comparison measures, which is known before anything runs.

eval/comparison/gate.py says what the bounds mean, and whether they hold.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.data.reading.tasks import load_task
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.recipe.recipe import Recipe
    from pipeline.stages.compare import CompareConfig


def check_gate(recipe: "Recipe", name: str) -> None:
    """Raise PosttrainError, with its place, for a key of a compare stage's gate that names nothing.

    Stages of a different kind have no gate. Tasks that cannot be loaded are left to whoever loads
    them.
    """
    config = recipe.stages[name]
    if config.stage != "compare":
        return
    from eval.comparison.gate import check_bounds, resolve, spread
    from pipeline.stages.compare import CompareConfig, bounds

    assert isinstance(config, CompareConfig)
    if not config.gate:
        return
    asking = _asking(recipe, name, config)
    known = _metrics_by_task(recipe, asking, config.pass_at)
    for key, bound in bounds(config.gate).items():
        try:
            for each, _ in spread({key: bound}, known):
                named = resolve(each, known)
                check_bounds(each, named, bound)
                if named.style not in (None, "none", *asking.asked_styles):
                    raise ValueError(f"the style `{named.style}` is not asked")  # noqa: TRY301
        except ValueError as error:
            where = recipe.document.where(("stages", name, "gate", key), key=True)
            raise PosttrainError(where, str(error)) from error


def _asking(recipe: "Recipe", name: str, config: "CompareConfig") -> "MeasuringStage":
    """Return the stage that asks: the baseline's evaluation, or the comparison itself."""
    from pipeline.stages.evaluate import EvaluateConfig

    entrants = (config.baseline, *config.candidates)
    stages = [recipe.stages[reference.name] for reference in recipe.references(name)]
    asking = [stage for stage in stages if isinstance(stage, EvaluateConfig)]
    return asking[0] if len(asking) == len(entrants) else config


def _metrics_by_task(
    recipe: "Recipe", asking: "MeasuringStage", pass_at: Sequence[int]
) -> dict[str, list[str]]:
    from eval.comparison.free_form import ALL_REWARDS, judged_task
    from eval.comparison.paired_results import WIN_RATE, pass_counts
    from eval.results import BITS_PER_BYTE, RANKING, REWARD, VERIFIED
    from eval.tasks import parse

    metrics_by_task: dict[str, list[str]] = {}
    passing = pass_counts(asking.samples, [k for k in pass_at if k <= asking.samples])
    for name in asking.tasks:
        try:
            task = load_task(name, recipe.places)
        except ValueError:
            continue
        metrics = list(task.measured)
        if VERIFIED in metrics:
            metrics += [WIN_RATE, *(f"pass@{k}" for k in passing)]
        metrics_by_task[task.name] = metrics
    of_tasks = [block.label for block in asking.prompts if block.task is not None]
    for block in asking.prompts:
        named = [term.label for term in asking.rewards if term.is_for(block.label, of_tasks)]
        for reward in [*named, ALL_REWARDS] if len(named) > 1 else named:
            metrics_by_task[judged_task(block.label, reward)] = [REWARD, WIN_RATE]
    for name in asking.harness:
        # Only the harness knows what it measures of a task.
        metrics_by_task.setdefault(parse(name)[0], [])
    for block in asking.texts:
        metrics_by_task.setdefault(block.label, []).append(BITS_PER_BYTE)
        if block.form in (
            None,
            "preference",
        ):  # without a form, only the rows say if they are pairs
            metrics_by_task[block.label].append(RANKING)
    return metrics_by_task
