"""The command `posttrain report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import RUNS, Overrides, Roots, Runs, app, echo, load_recipe, store_at
from pipeline.errors import CorruptArtifactError, PosttrainError

if TYPE_CHECKING:
    from pipeline.recipe.load import Recipe
    from pipeline.report.html import ReportedRun
    from pipeline.run.store import Store


@app.command()
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A recipe file, or the folder runs/<recipe>.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; else report.html beside the results.")
    ] = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Write what came of a run as one self-contained HTML page."""
    import webbrowser

    from pipeline.report.html import REPORT, write

    reported = _of_folder(run, overrides, roots) if run.is_dir() else None
    reported = reported or _of_recipe(run, overrides, roots, runs)
    written = write(reported, out or (run if run.is_dir() else reported.folder) / REPORT)
    echo(f"{reported.name}: report written to {written}")
    if is_opened:
        webbrowser.open(written.resolve().as_uri())


def write_run_report(recipe: "Recipe", store: "Store", first: int | None) -> Path:
    """Write the report of a run beside its results; return where it is.

    first: the smallest of several seeds, whose stages the report shows beside what is pooled.
    """
    from pipeline.report.html import REPORT, run_of_folder, run_of_plan, write
    from pipeline.run.plan import make

    if first is None:
        return write(run_of_plan(make(recipe, store), store), store.runs / recipe.name / REPORT)
    folder = store.runs / recipe.name
    return write(run_of_folder(folder, plan=make(recipe.with_seed(first), store)), folder / REPORT)


def _of_recipe(
    path: Path, overrides: list[str] | None, roots: list[str] | None, runs: Path
) -> "ReportedRun":
    """Return the run of a recipe; where it ran under several seeds only, of the first of them."""
    from pipeline.report.html import first_seed, run_of_plan
    from pipeline.run.plan import make

    store, recipe = store_at(runs), load_recipe(path, overrides, roots)
    seed = first_seed(store.runs / recipe.name)
    return run_of_plan(make(recipe if seed is None else recipe.with_seed(seed), store), store)


def _of_folder(folder: Path, overrides: list[str] | None, roots: list[str] | None) -> "ReportedRun":
    """Return the run that a folder recorded. The rows of data need the recipe; results do not."""
    from pipeline.report.html import recorded_recipe, run_of_folder, runs_of
    from pipeline.run.plan import make

    path, seed, is_of_several = recorded_recipe(folder)
    try:
        recipe = load_recipe(path, overrides, roots)
        store = store_at(runs_of(folder))
        plan = make(recipe.with_seed(seed) if is_of_several else recipe, store)
    except CorruptArtifactError:
        raise
    except PosttrainError as error:
        return run_of_folder(folder, no_plan=str(error))
    return run_of_folder(folder, plan=plan)
