"""The `posttrain` command. Nothing heavy is imported before a command needs it."""

import gc
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipeline.errors import InterruptedRunError, PosttrainError, closest

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.recipe.load import Recipe
    from pipeline.run.plan import Plan
    from pipeline.run.store import Store

app = typer.Typer(
    name="posttrain",
    help="From a recipe to an aligned model and an honest comparison with its base.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="A stage of the recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, as stages.sft.batch_size=8."),
]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", metavar="NAME=DIR", help="Where a data folder of the recipe is."),
]
Runs = Annotated[
    Path,
    typer.Option("--runs", envvar="POSTTRAIN_RUNS", help="Where results are written."),
]
_RUNS = Path("runs")
# What every wrong command line raises; Typer has its class under a private name only.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


def main() -> None:
    """Run the command; errors of the user's are one line and an exit code."""
    gc.disable()  # a tenth of a plan's time, for a process that soon ends; `run` turns it on again
    # Looking through all installed packages for plugins takes pydantic longer than a plan.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    try:
        app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except PosttrainError as error:
        _exit(str(error), error.exit_code)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "posttrain"
        said = error.format_message().rstrip(".")
        line = f"{command}: {said[:1].lower()}{said[1:]}; see `{command} --help`"
        _exit(" ".join(line.split()), 2)
    except KeyboardInterrupt:
        _exit("stopped", InterruptedRunError.exit_code)
    except (typer.Abort, typer.Exit) as leaving:
        sys.exit(getattr(leaving, "exit_code", 1))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command()
def plan(
    recipe: RecipePath, overrides: Overrides = None, roots: Roots = None, runs: Runs = _RUNS
) -> None:
    """Show what would run and why, and what is there already. Imports no torch."""
    from pipeline.report.terminal import print_plan

    print_plan(_plan(recipe, overrides, roots, runs), _console())


@app.command()
def run(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="This stage alone.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="This stage and what follows from it.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run the selected stages again although they are there.")
    ] = False,
    resume_anyway: Annotated[
        bool,
        typer.Option(
            "--resume-anyway",
            help="Go on from a checkpoint although libraries or the batch split changed; "
            "the result is marked not exact.",
        ),
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Run once a seed, and pool the comparisons."),
    ] = None,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Run what is missing; killed stages go on from their newest whole checkpoint."""
    from pipeline.report.pooled import print_pooled
    from pipeline.report.terminal import print_comparison, print_outcomes
    from pipeline.run.runner import Selection
    from pipeline.run.runner import run as run_stages
    from pipeline.run.seeds import parse_seeds, run_seeds

    several = None if seeds is None else parse_seeds(seeds)
    loaded = _load(recipe, overrides, roots)
    console = _console()
    gc.enable()
    options: dict[str, Any] = {
        "selection": Selection(only=stage, start=start, until=until, force=force),
        "resume_anyway": resume_anyway,
        "say": lambda line: console.print(line, markup=False, highlight=False),
    }
    store = _store(runs, writes=True)
    if several is not None:
        for name, pooled in run_seeds(loaded, store, several, **options).items():
            print_pooled(name, pooled, console)
    else:
        outcomes = run_stages(loaded, store, **options)
        print_outcomes(outcomes, console)
        for outcome in outcomes:
            if outcome.artifact.produces == "comparison":
                print_comparison(_comparison(outcome.artifact.path), console)
    console.print(f"results: {runs / loaded.name}", markup=False, highlight=False)


@app.command()
def why(
    recipe: RecipePath,
    stage: StageName,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Name what changed since a stage's last result."""
    from pipeline.run.inspect import why as causes

    made = _plan(recipe, overrides, roots, runs, stage)
    for line in causes(made, _store(runs), stage):
        typer.echo(line)


@app.command()
def status(
    recipe: RecipePath, overrides: Overrides = None, roots: Roots = None, runs: Runs = _RUNS
) -> None:
    """Show what is there of each stage, with sizes."""
    from pipeline.report.terminal import print_states
    from pipeline.run.inspect import status as states

    made = _plan(recipe, overrides, roots, runs)
    print_states(states(made, _store(runs)), _console())


@app.command()
def check(
    recipe: RecipePath,
    show_mask: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help="Show rows of an SFT stage with the trained part marked."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows of each source to show.")] = 3,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Check a recipe and every row of its local data, without running anything."""
    from pipeline.run.check import check_recipe_data

    made = _plan(recipe, overrides, roots, runs, show_mask)
    for line in check_recipe_data(made.recipe):
        typer.echo(line)
    typer.echo(f"{recipe}: nothing wrong found in {len(made.stages)} stages and their local data")
    if show_mask is not None:
        from pipeline.run.masks import print_masks

        print_masks(made, show_mask, rows=rows, console=_console())


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="tasks | stages | sizes")],
) -> None:
    """List what a recipe can name."""
    from pipeline.report.listing import listing

    for line in listing(what):
        typer.echo(line)


@app.command()
def logs(
    recipe: RecipePath,
    stage: StageName,
    metrics: Annotated[bool, typer.Option("--metrics", help="metrics.jsonl instead.")] = False,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Print what a stage logged, finished or not."""
    made = _plan(recipe, overrides, roots, runs, stage)
    planned = made.stage(stage)
    working = _store(runs).working(planned.kind, planned.fingerprint)
    folder = planned.path if planned.artifact is not None else working.out
    path = folder / ("metrics.jsonl" if metrics else "log.txt")
    if not path.exists():
        raise PosttrainError(str(recipe), f"`{stage}` has written no {path.name} yet")
    sys.stdout.write(path.read_text(encoding="utf-8", errors="replace"))


@app.command()
def adopt(
    recipe: RecipePath,
    stage: StageName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.")],
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Register a model that was trained elsewhere as the result of a stage."""
    from pipeline.run.adoption import adopt as register

    made = _plan(recipe, overrides, roots, runs, stage)
    artifact = register(made, _store(runs, writes=True), stage, folder)
    typer.echo(f"{stage}: adopted as {artifact.path}")


@app.command()
def export(
    recipe: RecipePath,
    stage: StageName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to write.")],
    merged: Annotated[
        bool | None,
        typer.Option("--merged/--adapter", help="Merge an adapter into its base, or leave it."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the hub as well.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Not for all to see there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = _RUNS,
) -> None:
    """Write a finished stage's model as a folder that other libraries load, with a model card."""
    from functools import partial

    from pipeline.report.card import model_card
    from pipeline.run.export import prepare, write
    from pipeline.run.push import check_repository
    from pipeline.run.push import push as upload

    if push is not None:
        check_repository(push)
    elif private:
        raise PosttrainError("--private", "has a meaning with --push only", "leave it out")
    store = _store(runs)
    found = prepare(_plan(recipe, overrides, roots, runs, stage), store, stage, merged=merged)
    card = partial(model_card, found, repository=push)
    written = write(found, store, folder, force=force, card=card)
    typer.echo(f"{stage}: exported to {written} ({found.form})")
    if push is not None:
        message = f"posttrain export: {stage} {found.planned.fingerprint[:16]}"
        typer.echo(f"{stage}: {upload(written, push, private=private, message=message)}")


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only say what.")] = False,
    keep_unfinished: Annotated[
        bool, typer.Option("--keep-unfinished", help="Keep stages that can be resumed.")
    ] = False,
    runs: Runs = _RUNS,
) -> None:
    """Remove results that no run refers to and what killed stages left."""
    from pipeline.report.terminal import size
    from pipeline.run.inspect import remove, tree_bytes, unused

    total = 0
    for folder in unused(_store(runs), keep_unfinished=keep_unfinished):
        size_bytes = tree_bytes(folder)
        total += size_bytes
        typer.echo(f"{size(size_bytes):>10}  {folder}")
        if yes:
            remove(folder)
    said = "removed" if yes else "would be removed (--yes)" if total else "nothing to remove"
    typer.echo(f"{size(total):>10}  {said}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from pipeline.recipe.schema import schema as recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=1))


def _plan(
    path: Path,
    overrides: list[str] | None,
    roots: list[str] | None,
    runs: Path,
    stage: str | None = None,
) -> "Plan":
    """Load a recipe and plan it; `stage` must be one of its stages."""
    from pipeline.run.plan import make

    made = make(_load(path, overrides, roots), _store(runs))
    if stage is not None and stage not in made.recipe.stages:
        names = made.recipe.stages
        hint = closest(stage, names) or f"stages are {', '.join(names)}"
        raise PosttrainError(str(path), f"there is no stage `{stage}`", hint)
    return made


def _load(path: Path, overrides: list[str] | None, roots: list[str] | None) -> "Recipe":
    from pipeline.recipe.load import load

    return load(path, overrides=overrides or (), roots=dict(_root(text) for text in roots or ()))


def _root(text: str) -> tuple[str, Path]:
    from pipeline.recipe.config import PATTERN_WORDS, ROOT_NAME

    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise PosttrainError("--root", f"`{text}` is not NAME=DIR", "write --root real=data")
    if not re.match(ROOT_NAME, name):
        raise PosttrainError("--root", f"`{name}` cannot be a name", PATTERN_WORDS[ROOT_NAME])
    if not Path(folder).is_dir():
        raise PosttrainError("--root", f"`{folder}` is not a folder", "give the folder of the data")
    return name, Path(folder)


def _store(runs: Path, *, writes: bool = False) -> "Store":
    from pipeline.run.store import Store

    there = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    if not there.is_dir():
        raise PosttrainError("--runs", f"`{there}` is a file", "name a folder for the results")
    if writes and not os.access(there, os.W_OK | os.X_OK):
        raise PosttrainError("--runs", f"`{there}` cannot be written", "name another folder")
    return Store(runs)


def _console() -> "Console":
    from rich.console import Console

    return Console()


def _comparison(folder: Path) -> dict[str, Any]:
    import json

    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def _exit(line: str, code: int) -> None:
    sys.stderr.write(line + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
