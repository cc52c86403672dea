"""The command `posttrain track`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import (
    RUNS,
    Overrides,
    RecipePath,
    Roots,
    Runs,
    app,
    echo,
    plan_of,
)


@app.command()
def track(
    recipe: RecipePath,
    to: Annotated[
        str, typer.Option("--to", metavar="TRACKER", help="tensorboard | trackio")
    ] = "tensorboard",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; else one named after the tracker.")
    ] = None,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Write what finished stages logged for TensorBoard or Trackio."""
    from pipeline.commands.track import tell_tracker

    made = plan_of(recipe, overrides, roots, runs)
    folder = out or Path(to)
    for line in tell_tracker(made, to, folder):
        echo(line)
    look = {
        "tensorboard": f"tensorboard --logdir {folder}",
        "trackio": f"TRACKIO_DIR={folder} trackio show --project {made.recipe.name}",
    }
    echo(f"written to {folder}; to look: {look[to]}")
