"""What the command `posttrain run` does, and what it says at its end: one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.cli.app import console
from pipeline.cli.report import write_partial_report, write_run_report
from pipeline.errors import PosttrainError
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from eval.comparison.comparison import Comparison
    from eval.comparison.pool import PooledComparison
    from pipeline.recipe.recipe import Recipe
    from pipeline.run.runner import Selection
    from pipeline.store.store import Store


def run_and_tell(
    recipe: Recipe,
    store: Store,
    selection: Selection,
    *,
    seeds: Sequence[int] | None,
    resume_anyway: bool,
    jobs: int | None,
    writes_report: bool,
) -> None:
    """Run a recipe and print what came of it; raises GateError where a candidate does not ship.

    A run that fails or is stopped leaves a report of what there is, and raises as `run` does.
    """
    from pipeline.commands.gates import check_gates
    from pipeline.files.names import REPORT
    from pipeline.report.headline import headline

    screen = console()
    options: dict[str, Any] = {
        "selection": selection,
        "resume_anyway": resume_anyway,
        "jobs": jobs,
        "say": lambda line: _say(screen, line),
        "describe": headline,
    }
    if seeds is not None:
        comparisons, is_new = _run_seeds(recipe, store, seeds, options, screen), True
    else:
        try:
            comparisons, is_new = _run_once(recipe, store, options, screen)
        except PosttrainError:
            if writes_report:
                _leave_partial(recipe, store, screen)
            raise
    page = store.runs / recipe.name / REPORT
    if writes_report and (is_new or not page.exists()):
        page = write_run_report(recipe, store, None if seeds is None else min(seeds))
    if page.exists():
        _say(screen, f"report:  {page}")
    _say(screen, f"results: {store.runs / recipe.name}")
    if comparisons:
        first, *others = comparisons
        if seeds is None:
            which, beside = f"{recipe.path}:{first}", [f":{name}" for name in others]
        else:
            which = str(store.runs / recipe.name / "seeds" / f"{first}.json")
            beside = [f"{name}.json" for name in others]
        hint = f"   (or {', '.join(beside)})" if beside else ""
        _say(screen, f"all of it: posttrain compare {which} --full{hint}")
    check_gates(comparisons)


def _run_once(
    recipe: Recipe, store: Store, options: Mapping[str, Any], screen: Console
) -> tuple[dict[str, Comparison], bool]:
    """Run a recipe; return its comparisons by name, and whether its results are not the last run's.

    Their scores are printed at the end; without any, the table of stages is.
    """
    from pipeline.report.comparison import stage_comparison
    from pipeline.report.terminal.comparison import print_comparisons
    from pipeline.report.terminal.run import print_losses_of_rows, print_outcomes
    from pipeline.run.runner import run
    from pipeline.stages.compare import read_comparison

    before = _results(store, recipe)
    outcomes = run(recipe, store, **options)
    comparisons = {
        outcome.name: read_comparison(outcome.artifact)
        for outcome in outcomes
        if outcome.artifact.produces == "comparison"
    }
    screen.print()
    if not comparisons:
        print_outcomes(outcomes, screen)
    print_losses_of_rows(outcomes, screen)
    print_comparisons([stage_comparison(comparisons[name], name) for name in comparisons], screen)
    is_new = any(outcome.status != "cached" for outcome in outcomes)
    return comparisons, is_new or _results(store, recipe) != before


def _results(store: Store, recipe: Recipe) -> dict[str, str]:
    """Return the fingerprint of each stage's result in the last run."""
    from pipeline.store.run_record import last_run

    return {name: stage["fingerprint"] for name, stage in last_run(store, recipe.name).items()}


def _run_seeds(
    recipe: Recipe,
    store: Store,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    screen: Console,
) -> dict[str, PooledComparison]:
    from pipeline.commands.seeds import run_seeds
    from pipeline.report.comparison import pooled_comparison
    from pipeline.report.terminal.comparison import print_comparisons

    pooled = run_seeds(recipe, store, seeds, **options)
    screen.print()
    print_comparisons([pooled_comparison(pooled[name], name) for name in pooled], screen)
    return pooled


def _leave_partial(recipe: Recipe, store: Store, screen: Console) -> None:
    """Write a report of what there is; what cannot be told now must not hide why the run ended."""
    try:
        page = write_partial_report(recipe, store)
    except PosttrainError as error:
        _say(screen, f"no report of what there is: {error}")
        return
    if page is not None:
        _say(screen, f"report of what there is so far:  {page}")


def _say(screen: Console, line: str) -> None:
    screen.print(visible(line), markup=False, highlight=False, soft_wrap=True)
