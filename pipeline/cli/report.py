"""The command `posttrain report`."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import RUNS, Overrides, Roots, Runs, app, echo, load_recipe, store_at
from pipeline.errors import CorruptArtifactError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pipeline.recipe.recipe import Recipe
    from pipeline.report.html import ReportedRun
    from pipeline.store.store import Store


@app.command()
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A recipe file, or the folder runs/<recipe>.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; else report.html beside the results.")
    ] = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow the run on a page in the browser instead."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of that page; else 8000 or the next free one."),
    ] = None,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Write what came of a run so far as one self-contained HTML page."""
    import webbrowser

    from pipeline.files.names import REPORT
    from pipeline.report.html import write

    if port is not None and not watch:
        raise PosttrainError("--port", "has a meaning with --watch only", "add --watch")
    if watch:
        if out is not None:
            raise PosttrainError("--out", "a page that follows a run is no file", "leave it out")
        _watch(run, overrides, roots, runs, port=port, opens=is_opened)
        return
    reported = _of_folder(run, overrides, roots) if run.is_dir() else None
    reported = reported or _of_recipe(run, overrides, roots, runs)
    written = write(reported, out or (run if run.is_dir() else reported.folder) / REPORT)
    echo(f"{reported.name}: report written to {written}")
    if is_opened:
        webbrowser.open(written.resolve().as_uri())


def _watch(
    run: Path,
    overrides: list[str] | None,
    roots: list[str] | None,
    runs: Path,
    *,
    port: int | None,
    opens: bool,
) -> None:
    """Serve the page that follows a run until Ctrl-C."""
    from pipeline.plan.plan import make
    from pipeline.report.html import recorded_recipe, runs_of
    from pipeline.report.live.state import Follower
    from pipeline.report.live.web import serve
    from pipeline.web.connections import bind_socket

    seed = None
    if run.is_dir():
        recipe_path, recorded_seed, is_of_several = recorded_recipe(run)
        run, runs, seed = recipe_path, runs_of(run), recorded_seed if is_of_several else None
    recipe, store = load_recipe(run, overrides, roots), store_at(runs)
    plan = make(recipe if seed is None else recipe.with_seed(seed), store)
    serve(Follower(plan, store), bind_socket(port), opens=opens, say=echo)


@contextmanager
def follow_run(
    recipe: Path, overrides: list[str] | None, roots: list[str] | None, runs: Path
) -> "Generator[None]":
    """Have a process of its own serve the page that follows a run, as long as the run takes."""
    command = [sys.executable, "-P", "-m", "pipeline.cli", "report", str(recipe), "--watch"]
    for option, values in (("--set", overrides), ("--root", roots)):
        for value in values or ():
            command += [option, value]
    server = subprocess.Popen([*command, "--runs", str(runs)], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def write_run_report(recipe: "Recipe", store: "Store", first: int | None) -> Path:
    """Write the report of a run beside its results; return where it is.

    first: the smallest of several seeds, whose stages the report shows beside what is pooled.
    """
    from pipeline.files.names import REPORT
    from pipeline.plan.plan import make
    from pipeline.report.html import run_of_folder, run_of_plan, write

    if first is None:
        return write(run_of_plan(make(recipe, store), store), store.runs / recipe.name / REPORT)
    folder = store.runs / recipe.name
    return write(run_of_folder(folder, plan=make(recipe.with_seed(first), store)), folder / REPORT)


def write_partial_report(recipe: "Recipe", store: "Store") -> Path | None:
    """Write what there is of a run that did not come to its end; None if nothing was begun."""
    from pipeline.files.names import REPORT
    from pipeline.plan.plan import make
    from pipeline.report.html import run_of_plan, write

    reported = run_of_plan(make(recipe, store), store, may_be_empty=True)
    if not reported.begun:
        return None
    return write(reported, store.runs / recipe.name / REPORT)


def _of_recipe(
    path: Path, overrides: list[str] | None, roots: list[str] | None, runs: Path
) -> "ReportedRun":
    """Return the run of a recipe; where it ran under several seeds only, of the first of them."""
    from pipeline.plan.plan import make
    from pipeline.report.html import first_seed, run_of_plan

    store, recipe = store_at(runs), load_recipe(path, overrides, roots)
    seed = first_seed(store.runs / recipe.name)
    return run_of_plan(make(recipe if seed is None else recipe.with_seed(seed), store), store)


def _of_folder(folder: Path, overrides: list[str] | None, roots: list[str] | None) -> "ReportedRun":
    """Return the run that a folder recorded. The rows of data need the recipe; results do not."""
    from pipeline.plan.plan import make
    from pipeline.report.html import recorded_recipe, run_of_folder, runs_of

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
