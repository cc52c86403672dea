"""`posttrain export` of a stage that makes rows: a folder that is a data set of the hub.

    data/train.jsonl   the rows, as the stage published them
    README.md          the card (pipeline/report/rows_card.py), which says where the rows are
    posttrain.json     how they were made

`datasets.load_dataset("DIR")` reads it, and so does `hub:` once it is uploaded. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.commands.export import (
    CARD,
    RECORD,
    check_folder,
    check_place,
    finished_artifact,
    record_of,
    without_places,
)
from pipeline.errors import PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.files.names import ROWS, ROWS_SUMMARY
from pipeline.store.manifest import describe_files, write_json
from pipeline.store.staging import put, staging
from pipeline.store.store import read_json, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.store.store import Artifact, Store

KIND = "data"  # what a stage makes
FILE = "data/train.jsonl"


@dataclass(frozen=True)
class RowsExport:
    """What is exported. summary: rows.json, what is in the rows."""

    plan: Plan
    planned: PlannedStage
    artifact: Artifact
    summary: dict[str, Any]


def makes_rows(plan: Plan, name: str) -> bool:
    """Whether a stage is one that makes rows, and not a model."""
    from pipeline.stages import stage_of

    return stage_of(plan.stage(name).kind).produces == KIND


def prepare_rows(plan: Plan, name: str) -> RowsExport:
    """Find a stage's rows; PosttrainError where it has not run, or wrote none of ours."""
    artifact = finished_artifact(plan, name)
    verify(artifact)
    for file in (ROWS, ROWS_SUMMARY):
        if file not in artifact.files:
            message = f"`{name}` has no {file}"
            hint = "write its rows with `pipeline.data.making.rows.write_rows`"
            raise PosttrainError(str(plan.recipe.path), message, hint)
    return RowsExport(plan, plan.stage(name), artifact, read_json(artifact, ROWS_SUMMARY))


def write_rows_export(
    export: RowsExport, store: Store, folder: Path, *, force: bool, card: Callable[[], str]
) -> Path:
    """Write the export into a folder that appears whole or not at all; returns it.

    force: replace what an earlier export wrote there. card: gives README.md.
    """
    folder = folder.absolute()
    check_place(folder, store)
    folder = folder.resolve()
    with one_line(str(folder)), staging(folder) as beside:
        check_folder(folder, force=force)
        out = beside / "export"
        (out / FILE).parent.mkdir(parents=True)
        _copy_rows(export.artifact.path / ROWS, out / FILE)
        (out / CARD).write_text(card(), encoding="utf-8")
        record = record_of(export.artifact, export.planned.name, form="rows", ours=frozenset())
        write_json(out / RECORD, {**record, "files": describe_files(out, manifest=RECORD)})
        put(out, folder)
    return folder


def _copy_rows(path: Path, place: Path) -> None:
    """Copy rows; a `source` that is a path of this machine becomes the file's name."""
    with path.open(encoding="utf-8") as rows, place.open("w", encoding="utf-8") as copied:
        for line in rows:
            row = json.loads(line)
            if without_places(row.get("source")) != row.get("source"):
                row["source"] = without_places(row["source"])
                copied.write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                copied.write(line)
