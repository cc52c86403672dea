"""The command `posttrain compare`."""

import gc
import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.app import RUNS, Roots, Runs, app, console, plan_of, roots_by_name, store_at
from pipeline.errors import PosttrainError
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from eval.comparison.comparison import Comparison

_OF_STORED = frozenset({"models", "as_json", "is_full", "roots", "runs"})  # what they depend on
_OF_LOGS = _OF_STORED | {"tasks", "out"}


@app.command()
def compare(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Models: folders, hub ids, or stages as recipe.yaml:stage; or logs of "
            "lm-evaluation-harness, inspect_ai or AlpacaEval: folders or files. "
            "A is what the others are measured against. "
            "One finished compare stage alone shows its result.",
        ),
    ],
    tasks: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="See `posttrain list tasks`.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Text whose bits per byte are measured."),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help=r"What separates documents in a text file, as '\n\n'.")
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Prompts that are answered freely, side by side."),
    ] = None,
    rewards: Annotated[
        list[str] | None,
        typer.Option("--reward", metavar="MODULE:NAME", help="A function that judges the answers."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer, at most.")] = 256,
    limit: Annotated[
        int, typer.Option(help="Items per task, rows per text, prompts per file.")
    ] = 200,
    styles: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="zero-shot, few-shot, chain-of-thought.")
    ] = None,
    shots: Annotated[
        str, typer.Option(metavar="N,...", help="Demonstrations in a few-shot prompt.")
    ] = "3",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Responses per prompt.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Changes memory and speed, not results.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of demonstrations and samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the result; else one below --runs."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print comparison.json instead of tables.")
    ] = False,
    is_full: Annotated[
        bool,
        typer.Option("--full", help="Every way of asking, p-values, flips, lengths, divergence."),
    ] = False,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Compare models on the same items, without a recipe."""
    from pipeline.commands.compare_logs import compare_logs, read_logs
    from pipeline.commands.comparison_folders import short_names

    if len(models) == 1 and _show_stored(context, models[0], roots, runs, as_json, is_full):
        return
    short_names(models)
    store = store_at(runs, writes=out is None)
    logs = read_logs(models)
    if logs is not None:
        _refuse_options(context, f"these are logs of {logs[0].program}", _OF_LOGS)
        folder = compare_logs(models, logs, store, tasks=_parts(tasks), out=out)
    else:
        from pipeline.commands.compare_models import compare_models

        gc.enable()
        settings, folders = _settings(context.params), roots_by_name(roots)
        folder = compare_models(models, store, settings=settings, out=out, seed=seed, roots=folders)
    _show_folder(folder, as_json=as_json, is_full=is_full)


def _show_stored(
    context: typer.Context, name: str, roots: Roots, runs: Path, as_json: bool, is_full: bool
) -> bool:
    """Show a comparison that is there already: a stage's, or one pooled over seeds; else False."""
    from pipeline.commands.comparison_folders import is_pooled

    path = Path(name)
    stored = None if is_pooled(path) else _of_stage(name, roots, runs)
    if stored is None and not is_pooled(path):
        return False
    _refuse_options(context, "this comparison is there already", _OF_STORED)
    if stored is None:
        _show_pooled(path, as_json=as_json, is_full=is_full)
    else:
        _show(name.rpartition(":")[2], stored, as_json=as_json, is_full=is_full)
    return True


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return what models are asked, as the compare stage has it, of the command's options."""
    same = ("max_new_tokens", "limit", "temperature", "samples", "batch_size")
    settings = {name: options[name] for name in same} | {
        "tasks": _parts(options["tasks"]),
        "texts": [_text(file, options["separator"]) for file in options["texts"] or ()],
        "prompts": [{"file": file} for file in options["prompts"] or ()],
        "rewards": [{"use": name} for name in options["rewards"] or ()],
        "shots": [_number("--shots", part) for part in _parts(options["shots"])],
    }
    return settings | ({"styles": _parts(options["styles"])} if options["styles"] else {})


def _show_folder(folder: Path, *, as_json: bool, is_full: bool) -> None:
    """Print the comparison in a folder, and where it is."""
    from pipeline.commands.comparison_folders import read_folder

    _show("compare", read_folder(folder), as_json=as_json, is_full=is_full)
    if not as_json:
        console().print(visible(f"results: {folder}"), markup=False, highlight=False)


def _show(name: str, comparison: "Comparison", *, as_json: bool, is_full: bool) -> None:
    """Print what a comparison says: as JSON, in a screen, or all of it."""
    from pipeline.report.comparison import stage_comparison
    from pipeline.report.terminal.comparison import print_overview
    from pipeline.report.terminal.free_form import print_written
    from pipeline.report.terminal.full_comparison import print_comparison

    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=1))
        return
    screen = console()
    if is_full:
        print_comparison(comparison, screen)
    else:
        print_overview(stage_comparison(comparison, name), screen)
    print_written(comparison, screen)
    if not is_full:
        for note in comparison.notes:
            screen.print(visible(note), style="dim", markup=False, highlight=False)


def _show_pooled(path: Path, *, as_json: bool, is_full: bool) -> None:
    """Print what a comparison over seeds says: as JSON, in a screen, or each seed's scores."""
    from pipeline.commands.comparison_folders import read_pooled
    from pipeline.report.comparison import pooled_comparison
    from pipeline.report.terminal.comparison import print_overview
    from pipeline.report.terminal.pooled import print_pooled

    pooled = read_pooled(path)
    if as_json:
        typer.echo(json.dumps(pooled.to_json(), indent=1))
    elif is_full:
        print_pooled(path.stem, pooled, console())
    else:
        print_overview(pooled_comparison(pooled, path.stem), console())


def _of_stage(text: str, roots: list[str] | None, runs: Path) -> "Comparison | None":
    """Return the finished comparison that `recipe.yaml:stage` names; None for anything else."""
    from pipeline.stages.compare import read_comparison

    recipe, colon, stage = text.rpartition(":")
    if not colon or not recipe.endswith((".yaml", ".yml")):
        return None
    planned = plan_of(Path(recipe), None, roots, runs, stage).stage(stage)
    if planned.kind != "compare":
        return None
    if planned.artifact is None:
        hint = f"`posttrain run {recipe} --until {quote(stage)}` makes it"
        raise PosttrainError(text, f"has no result ({planned.because})", hint)
    return read_comparison(planned.artifact)


def _refuse_options(context: typer.Context, why: str, taken: frozenset[str]) -> None:
    """Refuse an option that was given and would change nothing: models are not asked again."""
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in taken:
            raise PosttrainError(option.opts[0], f"asks models, and {why}", "leave it out")


def _parts(text: str | None) -> list[str]:
    """Split at commas outside brackets: a task may have settings."""
    parts, depth = [""], 0
    for character in text or "":
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _text(file: str, separator: str | None) -> dict[str, str]:
    if separator is None:
        return {"file": file}
    return {"file": file, "separator": separator.replace(r"\n", "\n").replace(r"\t", "\t")}


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise PosttrainError(option, f"`{text}` is not a whole number", f"write {option} 1,3,5")
    return int(text)
