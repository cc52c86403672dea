"""The command `posttrain export`."""

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
    echo,
    plan_of,
    store_at,
)
from pipeline.errors import PosttrainError


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
    runs: Runs = RUNS,
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
    store = store_at(runs)
    found = prepare(plan_of(recipe, overrides, roots, runs, stage), stage, merged=merged)
    card = partial(model_card, found, repository=push)
    written = write(found, store, folder, force=force, card=card)
    echo(f"{stage}: exported to {written} ({found.form})")
    if push is not None:
        message = f"posttrain export: {stage} {found.planned.fingerprint[:16]}"
        echo(f"{stage}: {upload(written, push, private=private, message=message)}")
