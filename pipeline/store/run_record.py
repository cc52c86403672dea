"""Reads runs/<recipe>/run.json: what a run recorded of itself and of its stages.

run/outcomes.py writes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import RECORD
from pipeline.store.manifest import read_sealed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.store.store import Store


_TEXTS = ("kind", "fingerprint", "path", "status")


_ANEW = "delete it and run the recipe again, which writes it anew; `clean` goes by the links then"


def last_run(store: Store, run_name: str) -> dict[str, dict[str, Any]]:
    """Return what runs/<run>/run.json says of each stage; empty when there is none."""
    path = store.runs / run_name / RECORD
    return read_record(path)["stages"] if os.path.lexists(path) else {}


def read_record(path: Path) -> dict[str, Any]:
    """Return what a run.json says; CorruptArtifactError for one that is not as it was written."""
    try:
        record = read_sealed(path)
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise CorruptArtifactError(str(path), message, _ANEW) from error
    except ValueError as error:
        raise CorruptArtifactError(str(path), str(error), _ANEW) from error
    if not _is_record(record):
        raise CorruptArtifactError(str(path), "is no record of a run", _ANEW)
    return record


def _is_record(record: Mapping[str, Any]) -> bool:
    named = isinstance(record.get("name"), str) and isinstance(record.get("recipe"), str)
    stages: Any = record.get("stages")
    if not named or not isinstance(record.get("seed"), int) or not isinstance(stages, dict):
        return False
    return all(
        isinstance(stage, dict) and all(isinstance(stage.get(key), str) for key in _TEXTS)
        for stage in cast("dict[str, Any]", stages).values()
    )
