"""The command `posttrain label`: people say which of two responses is better."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import RUNS, Roots, Runs, app, echo, roots_by_name, store_at
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.feedback.labelling import Work
    from pipeline.store.store import Store


@app.command()
def label(
    stages: Annotated[
        list[str],
        typer.Argument(
            metavar="STAGE...",
            help="A stage that made responses, as recipe.yaml:stage (`generate`, `label`), its "
            "folder, or a file of rows; of several, a pair has one response of each of two.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Preferences, .jsonl; else a file beside the recipe."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to decide, at most.")] = 100,
    repeat: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of them shown again, the other way round."),
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Draws pairs, their order and places.")] = 0,
    labeller: Annotated[str, typer.Option(metavar="NAME", help="Who decides.")] = "me",
    summary: Annotated[
        bool, typer.Option("--summary", help="Print what was decided so far, and open no page.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the page; else 8000 or the next free one."),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Say by hand which of two responses is better, on a page; writes a preference file.

    For people, who see no model's name. The stage `label` of a recipe has rewards and judges do it.
    """
    if summary and (port is not None or opens):
        option = "--open" if port is None else "--port"
        raise PosttrainError(option, "has no meaning with --summary", "leave one of them out")
    if not labeller.strip() or not labeller.isprintable() or len(labeller) > 100:
        raise PosttrainError("--labeller", "is no name of 1 to 100 characters", "write another")
    work = _find(stages, out, store_at(runs), roots_by_name(roots))
    if summary:
        for line in work.summary():
            echo(line)
        return
    _serve(work, pairs=pairs, repeat=repeat, seed=seed, labeller=labeller, port=port, opens=opens)


def _find(stages: list[str], out: Path | None, store: "Store", roots: Mapping[str, Path]) -> "Work":
    from pipeline.feedback.labelling import find_work

    return find_work(stages, out, store, roots)


def _serve(
    work: "Work",
    *,
    pairs: int,
    repeat: float,
    seed: int,
    labeller: str,
    port: int | None,
    opens: bool,
) -> None:
    """Serve the page until Ctrl-C, and say at the end what the decisions come to."""
    from pipeline.feedback.record import open_record
    from pipeline.feedback.session import Session
    from pipeline.feedback.web import serve
    from pipeline.web.connections import bind_socket

    showings, lines = work.draw(at_most=pairs, repeat=repeat, seed=seed)
    with open_record(work.preferences, labeller) as record, bind_socket(port) as bound:
        session = Session(showings, record, labeller=labeller, seed=seed)
        for line in lines:
            echo(line)
        over = "every pair is decided; Ctrl-C ends and tells what came of it"
        with suppress(KeyboardInterrupt):  # before or after the server listens to it
            serve(session, bound, opens=opens, say=echo, on_finish=lambda: echo(over))
    for line in work.summary():
        echo(line)
