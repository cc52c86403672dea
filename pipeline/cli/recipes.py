"""Commands about a recipe: what it would do, doing it, and what came of it."""

import gc
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import (
    RUNS,
    Overrides,
    RecipePath,
    Roots,
    Runs,
    StageName,
    app,
    console,
    echo,
    load_recipe,
    plan_of,
    store_at,
)
from pipeline.errors import PosttrainError
from pipeline.files.names import METRICS
from pipeline.text.visible import visible


@app.command()
def plan(
    recipe: RecipePath, overrides: Overrides = None, roots: Roots = None, runs: Runs = RUNS
) -> None:
    """Show what would run and why, and what is finished."""
    from pipeline.plan.room import check_room
    from pipeline.recipe.slurm import is_on_slurm
    from pipeline.report.terminal.plan import print_plan

    made = plan_of(recipe, overrides, roots, runs)
    if not is_on_slurm(made.recipe):
        check_room(made)
    print_plan(made, console())


@app.command()
def run(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="This stage and what is built on it.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="This stage and what it is built on.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run the selected stages again even if finished.")
    ] = False,
    resume_anyway: Annotated[
        bool,
        typer.Option(
            "--resume-anyway",
            help="Resume even if libraries or the batch split changed; "
            "the result is marked not exact.",
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, metavar="N", help="Run up to N stages side by side; else 1."
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Run once per seed, and pool the comparisons."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Follow the run on a page in the browser.")
    ] = False,
    writes_report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report", envvar="POSTTRAIN_REPORT", help="Write report.html at the end."
        ),
    ] = True,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Run the stages that are not finished.

    A stage that was killed resumes from its newest whole checkpoint.
    """
    from pipeline.cli.report import follow_run
    from pipeline.cli.running import run_and_tell
    from pipeline.commands.seeds import parse_seeds
    from pipeline.run.runner import Selection

    several = None if seeds is None else parse_seeds(seeds)
    if live and several is not None:
        hint = f"leave it out, and follow a seed: `posttrain report {recipe} --watch --set seed=N`"
        raise PosttrainError("--live", "cannot follow several seeds", hint)
    loaded = load_recipe(recipe, overrides, roots)
    gc.enable()
    selection = Selection(only=stage, start=start, until=until, force=force)
    store = store_at(runs, writes=True)
    with follow_run(recipe, overrides, roots, runs) if live else nullcontext():
        run_and_tell(
            loaded,
            store,
            selection,
            seeds=several,
            resume_anyway=resume_anyway,
            jobs=jobs,
            writes_report=writes_report,
        )


@app.command()
def why(
    recipe: RecipePath,
    stage: StageName,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Say what changed since a stage's last result."""
    from pipeline.commands.why import why as causes

    made = plan_of(recipe, overrides, roots, runs, stage)
    for line in causes(made, store_at(runs), stage):
        echo(line)


@app.command()
def status(
    recipe: RecipePath, overrides: Overrides = None, roots: Roots = None, runs: Runs = RUNS
) -> None:
    """Show how far each stage is, its size and its result."""
    from pipeline.commands.status import encoded
    from pipeline.commands.status import status as states
    from pipeline.report.headline import headline
    from pipeline.report.terminal.run import print_states

    made = plan_of(recipe, overrides, roots, runs)
    store = store_at(runs)
    results = {p.name: headline(p.artifact) for p in made.stages if p.artifact is not None}
    links = store.runs / made.recipe.run_name
    print_states(states(made, store), console(), results=results, links=links)
    if kept := encoded(store):
        echo(kept)


@app.command()
def check(
    recipe: RecipePath,
    show_mask: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help="Show rows of an SFT stage with the trained tokens marked."
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows per source that --show-mask shows; else 3."),
    ] = None,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Check a recipe and every row of its local data; run nothing."""
    from pipeline.checks.overlaps import check_overlaps
    from pipeline.commands.check import check_all
    from pipeline.plan.room import check_jobs, check_processes, check_room
    from pipeline.recipe.remarks import remarks
    from pipeline.recipe.slurm import is_on_slurm

    if rows is not None and show_mask is None:
        raise PosttrainError(
            "--rows", "has a meaning with --show-mask only", "add --show-mask STAGE"
        )
    made = plan_of(recipe, overrides, roots, runs, show_mask)
    check_jobs(made.recipe)
    if not is_on_slurm(made.recipe):
        check_processes(made.recipe)
        check_room(made)
    for name, config in made.recipe.stages.items():
        for remark in remarks(config):
            echo(f"{name}: {remark}")
    for line in check_all(made):
        echo(line)
    for line in check_overlaps(made.recipe, list(made.recipe.stages)):
        echo(line)
    echo(f"{recipe}: nothing wrong found in {len(made.stages)} stages and their local data")
    if show_mask is not None:
        from pipeline.commands.show_mask import print_masks

        print_masks(made, show_mask, rows=rows or 3, console=console())


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="recipes | tasks | stages | sizes")],
) -> None:
    """List what a recipe can name: recipes, tasks, stages or sizes."""
    from pipeline.report.terminal.listing import listing
    from pipeline.report.terminal.tables import print_table
    from pipeline.text.visible import escape

    columns, rows = listing(what)
    print_table(console(), columns, [[escape(cell) for cell in row] for row in rows])


@app.command()
def logs(
    recipe: RecipePath,
    stage: StageName,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print metrics.jsonl instead.")
    ] = False,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Show how a stage's training went, or goes, and what was logged."""
    from pipeline.report.terminal.training_log import training_log

    made = plan_of(recipe, overrides, roots, runs, stage)
    planned = made.stage(stage)
    working = store_at(runs).working(planned.kind, planned.fingerprint)
    is_finished = planned.artifact is not None
    folder = planned.path if is_finished else working.out
    if metrics:
        path = folder / METRICS
        if not path.exists():
            raise PosttrainError(str(recipe), f"`{stage}` has written no {path.name} yet")
        sys.stdout.write(visible(path.read_text(encoding="utf-8", errors="replace")))
        return
    lines = list(training_log(folder, is_finished=is_finished))
    if not lines:
        raise PosttrainError(str(recipe), f"`{stage}` has logged nothing yet")
    for line in lines:
        echo(line)


@app.command()
def adopt(
    recipe: RecipePath,
    stage: StageName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.")],
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Make a model that was trained elsewhere the result of a stage."""
    from pipeline.commands.adopt import adopt as register

    made = plan_of(recipe, overrides, roots, runs, stage)
    artifact = register(made, store_at(runs, writes=True), stage, folder)
    echo(f"{stage}: adopted as {artifact.path}")


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also remove stages that could be resumed.")
    ] = False,
    answers: Annotated[
        bool, typer.Option("--answers", help="Also remove what judges answered.")
    ] = False,
    encoded: Annotated[
        bool, typer.Option("--encoded", help="Also remove rows that are kept as token ids.")
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Remove results that no run refers to and what killed stages left.

    On a terminal it asks first; elsewhere it says what --yes would remove.
    """
    from pipeline.commands.clean import remove, survey
    from pipeline.text.amounts import size

    store = store_at(runs, writes=yes)
    leftovers = survey(store, unfinished=unfinished, answers=answers, encoded=encoded)
    sizes_bytes = [unused.size_bytes for unused in leftovers.unused]
    for unused, size_bytes in zip(leftovers.unused, sizes_bytes, strict=True):
        echo(f"{size(size_bytes):>10}  {unused.path}  {unused.why}")
    for line in leftovers.kept:
        echo(f"{'kept':>10}  {line}")
    total = size(sum(sizes_bytes))
    if not leftovers.unused:
        typer.echo("nothing to remove")
        return
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        yes = typer.confirm(f"remove {len(leftovers.unused)} of these, {total}?")
        if not yes:
            return
    if not yes:
        typer.echo(f"{total:>10}  would be removed (--yes)")
        return
    gone_bytes = 0
    for unused, size_bytes in zip(leftovers.unused, sizes_bytes, strict=True):
        stays = remove(store, unused, unfinished=unfinished)
        if stays is not None:
            echo(f"{'kept':>10}  {stays}")
        else:
            gone_bytes += size_bytes
    typer.echo(f"{size(gone_bytes):>10}  removed")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from pipeline.recipe.schema import schema as recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=1))
