"""The Typer application, and what several commands ask for and do first."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from pipeline.errors import InfrastructureError, PosttrainError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.plan.plan import Plan
    from pipeline.recipe.recipe import Recipe
    from pipeline.store.store import Store

# The commands as --help lists them: in the order in which a newcomer meets them.
_ORDER = (
    *("init", "check", "plan", "run", "status", "why", "logs", "report", "compare", "chat"),
    *("label", "export", "list", "clean", "adopt", "track", "doctor", "schema"),
)


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the names of all commands."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


class _Command(typer.core.TyperCommand):
    """A command that refuses an option given twice: the last one alone would count, silently."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return what is left of the arguments, as upstream does."""
        order = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in order:
            if isinstance(option, typer.core.TyperOption) and order.count(option) > 1:
                takes_one = not (option.multiple or option.is_flag or option.count)
                if takes_one:
                    several = "," in (option.metavar or "")
                    hint = "write its values with commas" if several else "leave one of them out"
                    raise PosttrainError(option.opts[0], "is given twice", hint)
        return super().parse_args(ctx, args)


class _App(typer.Typer):
    def command(self, name: str | None = None, **settings: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the decorator that makes a function a command."""
        return super().command(name, cls=_Command, **settings)


app = _App(
    name="posttrain",
    cls=_InOrder,
    help="From a recipe to an aligned model and an honest comparison with its base.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"posttrain {version('posttrain')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """From a recipe to an aligned model and an honest comparison with its base."""


RecipePath = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `posttrain list recipes`."),
]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="A stage of the recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as stages.sft.batch_size=8."),
]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", metavar="NAME=DIR", help="Where a data folder of the recipe lies."),
]
Runs = Annotated[
    Path,
    typer.Option("--runs", envvar="POSTTRAIN_RUNS", help="Where results are written."),
]
RUNS = Path("runs")


def plan_of(
    path: Path,
    overrides: list[str] | None,
    roots: list[str] | None,
    runs: Path,
    stage: str | None = None,
) -> "Plan":
    """Load a recipe and plan it; `stage` must be one of its stages."""
    from pipeline.plan.plan import make

    made = make(load_recipe(path, overrides, roots), store_at(runs))
    if stage is not None and stage not in made.recipe.stages:
        raise made.recipe.unknown_stage(stage)
    return made


def load_recipe(path: Path, overrides: list[str] | None, roots: list[str] | None) -> "Recipe":
    """Load a recipe with what the command line overrides."""
    from pipeline.recipe.load import load

    return load(path, overrides=overrides or (), roots=roots_by_name(roots))


def roots_by_name(roots: list[str] | None) -> dict[str, Path]:
    """Return the data folders that `--root NAME=DIR` names."""
    return dict(_root(text) for text in roots or ())


def store_at(runs: Path, *, writes: bool = False) -> "Store":
    """Return the store in `runs`; writes: say at once if it cannot be written."""
    from pipeline.store.store import Store

    there = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    if not there.is_dir():
        raise PosttrainError("--runs", f"`{there}` is a file", "name a folder for the results")
    if writes and not os.access(there, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(there).f_flag & os.ST_RDONLY
        reason = "the file system is read-only" if is_read_only else "permission denied"
        raise InfrastructureError("--runs", f"`{there}`: {reason}", "name another folder")
    return Store(runs)


def echo(line: str) -> None:
    """Print a line; what others wrote in it (names, files, values) cannot act on the terminal."""
    from pipeline.text.visible import visible

    typer.echo(visible(line))


def console() -> "Console":
    """Return the terminal to print on."""
    from rich.console import Console

    return Console()


def _root(text: str) -> tuple[str, Path]:
    from pipeline.config.field_types import PATTERN_WORDS, ROOT_NAME

    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise PosttrainError("--root", f"`{text}` is not NAME=DIR", "write --root real=data")
    if not re.match(ROOT_NAME, name):
        raise PosttrainError("--root", f"`{name}` cannot be a name", PATTERN_WORDS[ROOT_NAME])
    if not Path(folder).is_dir():
        raise PosttrainError("--root", f"`{folder}` is not a folder", "give the folder of the data")
    return name, Path(folder)
