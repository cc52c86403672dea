"""The command `posttrain export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from pipeline.plan.plan import Plan
    from pipeline.store.store import Store


@app.command()
def export(
    recipe: RecipePath,
    stage: StageName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to write.")],
    merged: Annotated[
        bool | None,
        typer.Option("--merged/--adapter", help="Merge an adapter into its base, or not."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--gguf", metavar="TYPE", help="Also write a GGUF and a Modelfile: f16, q8_0, bf16, ..."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check llama.cpp against transformers on 200 prompts.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the hub as well.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Upload privately.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    overrides: Overrides = None,
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Write a finished stage's model as a folder for other libraries; rows as a data set.

    A card lies beside it.
    """
    from functools import partial

    from pipeline.commands import gguf
    from pipeline.commands.export import prepare, write
    from pipeline.commands.export_rows import makes_rows
    from pipeline.commands.push import check_repository
    from pipeline.commands.push import push as upload
    from pipeline.report.card import model_card

    if push is not None:
        check_repository(push)
    elif private:
        raise PosttrainError("--private", "has a meaning with --push only", "leave it out")
    as_gguf = gguf.gguf_options(types or (), is_verified=verify)
    store = store_at(runs)
    plan = plan_of(recipe, overrides, roots, runs, stage)
    if makes_rows(plan, stage):
        if merged is not None or types or verify:
            option = "--gguf" if types or verify else "--merged" if merged else "--adapter"
            raise PosttrainError(option, f"is for models, and `{stage}` makes rows", "leave it out")
        _export_rows(plan, stage, store, folder, push=push, private=private, force=force)
        return
    prepared = prepare(plan, stage, merged=merged, as_gguf=as_gguf)
    card = partial(model_card, prepared, repository=push)
    written, files = write(prepared, store, folder, force=force, card=card, as_gguf=as_gguf)
    echo(f"{stage}: exported to {written} ({prepared.form})")
    for file in files:
        echo(f"{stage}: {file.describe()}")
    if push is not None:
        message = f"posttrain export: {stage} {prepared.planned.fingerprint[:16]}"
        echo(f"{stage}: {upload(written, push, private=private, message=message)}")


def _export_rows(
    plan: "Plan",
    stage: str,
    store: "Store",
    folder: Path,
    *,
    push: str | None,
    private: bool,
    force: bool,
) -> None:
    """Write a stage's rows as a data set of the hub."""
    from functools import partial

    from pipeline.commands.export_rows import prepare_rows, write_rows_export
    from pipeline.commands.push import push as upload
    from pipeline.report.rows_card import rows_card

    prepared = prepare_rows(plan, stage)
    card = partial(rows_card, prepared, repository=push)
    written = write_rows_export(prepared, store, folder, force=force, card=card)
    echo(f"{stage}: exported to {written} ({prepared.summary['rows']} rows)")
    if push is not None:
        message = f"posttrain export: {stage} {prepared.planned.fingerprint[:16]}"
        address = upload(written, push, private=private, message=message, is_data=True)
        echo(f"{stage}: {address}")
