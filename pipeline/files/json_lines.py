"""Files of one JSON object per line, of finished stages and of those that still write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError

if TYPE_CHECKING:
    from pathlib import Path


def read_lines(path: Path, *, is_finished: bool = True) -> list[dict[str, Any]]:
    """Return the objects of a file; an empty list where there is no file.

    is_finished: else lines that are not whole yet are passed over, and so is a file that is being
    replaced. Raises CorruptArtifactError for a finished file with a line that is not an object.
    """
    if not path.is_file():
        return []
    try:
        records = [_object(line, is_finished=is_finished) for line in _lines(path)]
    except (OSError, ValueError) as error:
        if not is_finished:
            return []
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error
    return [record for record in records if record is not None]


def _lines(path: Path) -> list[str]:
    """Return the lines that hold something; splitlines() would also part at separators in texts."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _object(line: str, *, is_finished: bool) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        if is_finished:
            raise
        return None
    if not isinstance(record, dict):
        raise ValueError(f"a line holds {type(record).__name__} instead of an object")  # noqa: TRY004
    return record
