"""The command `posttrain init`: a first recipe from a model, data and a goal."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import RUNS, app, echo, plan_of
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.commands.first_recipe import Goal, Wish
    from pipeline.commands.first_recipe_data import OwnData

SCHEMA = "recipe.schema.json"
_LARGE_BYTES = 400_000_000  # of weights: 100M parameters in fp32; above, an adapter is trained
_DATA = (
    "A file with rows, or a hub id as KIND:OWNER/NAME "
    "(demonstrations, pairs, thumbs, prompts, texts)."
)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe to write.")] = Path(
        "recipe.yaml"
    ),
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A folder, or a hub id `owner/name`.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(metavar="FILE", help=_DATA)] = None,
    goal: Annotated[
        str | None, typer.Option(metavar="GOAL", help="sft | dpo | kto | ppo | pretrain | evaluate")
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(metavar="REWARD", help="For ppo: a function `file:function`, or a model."),
    ] = None,
    writes_schema: Annotated[
        bool,
        typer.Option("--schema/--no-schema", help="Also write the schema for editors."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a first recipe that passes `check`.

    On a terminal it asks for what is not given.
    """
    from pipeline.commands.first_recipe import check_wish, sources_without_use

    if file.exists() and not force:
        raise PosttrainError(str(file), "is there already", "name another file, or add --force")
    file.parent.mkdir(parents=True, exist_ok=True)  # what is named from it must be found
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    wish = _wish(file, model, data, goal, reward, asks=asks)
    check_wish(wish)
    if writes_schema:
        from pipeline.recipe.schema import schema

        (file.parent / SCHEMA).write_text(json.dumps(schema(), indent=1), encoding="utf-8")
    schema_name = SCHEMA if writes_schema else None
    # Where most pairs would be left out, they are cut; where most prompts fill the model, there.
    for setting, side in (("too_long", "right"), ("truncation_side", "left")):
        try:
            lines = _write_and_check(file, wish, schema_name)
            break
        except PosttrainError as error:
            if setting not in error.hint:
                raise
            wish = replace(wish, cuts_pairs=side)
    else:
        lines = _write_and_check(file, wish, schema_name)
    for line in lines:
        echo(line)
    if left_out := sources_without_use(wish, file.read_text(encoding="utf-8")):
        echo(f"warning: not used for {wish.goal}: {', '.join(left_out)}")
    echo(f"{file}: written, and nothing wrong found in it")
    for command, what in (
        ("plan", "what would run, with all defaults"),
        ("check", "every row of your data again, after a change"),
        ("run", "do it"),
    ):
        echo(f"  posttrain {command} {file}  # {what}")


def _write_and_check(file: Path, wish: "Wish", schema: str | None) -> list[str]:
    """Write the recipe and check it as `posttrain check` does; return what that says."""
    from pipeline.checks.overlaps import check_overlaps
    from pipeline.commands.check import check_all
    from pipeline.commands.first_recipe import recipe_text

    file.write_text(recipe_text(wish, schema=schema), encoding="utf-8")
    plan = plan_of(file, None, None, RUNS)
    return [*check_all(plan), *check_overlaps(plan.recipe, list(plan.recipe.stages))]


def _wish(
    file: Path,
    model: str | None,
    data: list[str] | None,
    goal: str | None,
    reward: str | None,
    *,
    asks: bool,
) -> "Wish":
    from pipeline.commands.first_recipe import Wish, goal_of
    from pipeline.machine import may_have_gpu

    base = Path(os.path.abspath(file)).parent  # noqa: PTH100
    if model is None and not asks:
        raise PosttrainError("--model", "is missing", "give a folder or a hub id `owner/name`")
    named = _model(model, base) if model is not None else _ask_model(base)
    sources = [_source(source, base) for source in data or ()]
    if data is None and asks:
        sources = _ask_data(base)
    likely = goal_of([source.kind for source in sources])
    chosen = _goal(goal) if goal else _ask_goal(likely) if asks else likely
    if (
        chosen == "ppo"
        and reward is None
        and asks
        and all(source.kind != "pairs" for source in sources)
    ):
        reward = typer.prompt("reward, a function `file:function` or a reward model")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", file.stem).lstrip("_.-")
    return Wish(
        name=name or "mine",
        model=named,
        data=tuple(sources),
        goal=chosen,
        reward=reward,
        trains_adapter=_is_large(named, base),
        has_gpu=may_have_gpu() and sys.platform != "darwin",
    )


def _model(model: str, base: Path) -> str:
    """Return a model as the recipe names it: a folder from the recipe, or a hub id."""
    from pipeline.config.references import LocalModel, Places, model_source

    here = Path(model).expanduser()
    text = _from_recipe(here, base) if here.is_dir() else model
    try:
        source = model_source(text, Places(base), kinds=("policy",))
    except ValueError as error:
        raise PosttrainError("--model", str(error)) from error
    if isinstance(source, LocalModel):
        from pipeline.model_files.folder import check_folder

        check_folder(source.path)
    return text


def _from_recipe(path: Path, base: Path) -> str:
    """Return a path as a recipe in `base` names it, beginning with a dot unless it is absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  links, as those in runs/, stay
    if not absolute.is_relative_to(base.parent):
        return str(absolute)
    text = os.path.relpath(absolute, base)
    return text if text.startswith(".") else f"./{text}"


def _source(text: str, base: Path) -> "OwnData":
    from pipeline.commands.first_recipe_data import KINDS, Kind, own_data

    head, colon, rest = text.partition(":")
    kind: Kind | None = next((known for known in KINDS if known == head), None) if colon else None
    name = rest if kind else text
    here = Path(name).expanduser()
    return own_data(_from_recipe(here, base) if here.exists() else name, base, kind=kind)


def _goal(name: str) -> "Goal":
    from pipeline.commands.first_recipe import GOALS
    from pipeline.errors import closest

    for goal in GOALS:
        if goal == name:
            return goal
    hint = closest(name, GOALS) or f"goals are {', '.join(GOALS)}"
    raise PosttrainError("--goal", f"there is no goal `{name}`", hint)


def _ask_model(base: Path) -> str:
    while True:
        try:
            return _model(typer.prompt("model, a folder or a hub id `owner/name`"), base)
        except PosttrainError as error:
            echo(str(error))


def _ask_data(base: Path) -> "list[OwnData]":
    """Ask for files until none is given; what was found in each is said."""
    sources: list[OwnData] = []
    while True:
        what = "another file (Enter for no more)" if sources else "data, a file (Enter for none)"
        answer = typer.prompt(what, default="", show_default=False)
        if not answer:
            return sources
        try:
            source = _source(answer, base)
        except PosttrainError as error:
            echo(str(error))
            continue
        rows = "" if source.num_rows is None else f"{source.num_rows} rows, "
        echo(f"  {rows}{source.kind}")
        sources.append(source)


def _ask_goal(likely: "Goal") -> "Goal":
    from pipeline.commands.first_recipe import GOALS

    for goal, what in GOALS.items():
        echo(f"  {goal:<9} {what}")
    while True:
        try:
            return _goal(typer.prompt("goal", default=likely))
        except PosttrainError as error:
            echo(str(error))


def _is_large(model: str, base: Path) -> bool:
    """Whether a model's weights are many; those of the hub are taken to be."""
    from pipeline.config.references import Places

    folder = Places(base).file(model)
    if not folder.is_dir():
        return True
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) > _LARGE_BYTES
