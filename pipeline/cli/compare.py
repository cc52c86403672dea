"""The command `posttrain compare`."""

import gc
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.app import RUNS, Roots, Runs, app, console, roots_by_name, store_at
from pipeline.errors import PosttrainError
from pipeline.report.plain import visible


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Models: folders, hub ids, or stages as recipe.yaml:stage. "
            "A is what the others are measured against.",
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
        str | None,
        typer.Option(help=r"What divides a text file into documents, as '\n\n'."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Items of a task, documents of a text.")] = 200,
    styles: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="zero-shot, few-shot, chain-of-thought."),
    ] = None,
    shots: Annotated[
        str, typer.Option(metavar="N,...", help="Demonstrations in a few-shot prompt.")
    ] = "3",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Responses to each prompt.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Memory and speed only.")] = 64,
    seed: Annotated[int, typer.Option(help="Of demonstrations and samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the result goes; else below --runs."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print comparison.json instead of tables.")
    ] = False,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Compare models on the same items, without a recipe."""
    from pipeline.report.compared import print_comparison
    from pipeline.run.versus import compare_models, read_comparison

    gc.enable()
    settings: dict[str, Any] = {
        "tasks": _parts(tasks),
        "texts": [_text(file, separator) for file in texts or ()],
        "limit": limit,
        "shots": [_number("--shots", part) for part in _parts(shots)],
        "temperature": temperature,
        "samples": samples,
        "batch_size": batch_size,
        **({"styles": _parts(styles)} if styles else {}),
    }
    folder = compare_models(
        models,
        store_at(runs, writes=out is None),
        settings=settings,
        out=out,
        seed=seed,
        roots=roots_by_name(roots),
    )
    found = read_comparison(folder)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    screen = console()
    print_comparison(found, screen)
    screen.print(visible(f"results: {folder}"), markup=False, highlight=False)


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
