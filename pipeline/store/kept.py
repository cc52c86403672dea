"""What took long to make and can be made again, kept for other runs: rows as token ids.

    runs/store/.encoded/<fingerprint>/           kept.json, and the files that it names
    runs/store/.encoded/<fingerprint>/read_by/   a file called like each result that was made of it
    runs/store/.encoded/<fingerprint>.partial/   one that is being made, or that a kill left

The fingerprint is of all that decides what is in it. A folder appears by one rename, and kept.json
has the size and sha256 of every file: one that is torn, changed or half gone is made anew. No
torch here.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.store.fingerprint import fingerprint
from pipeline.store.locks import hold
from pipeline.store.manifest import describe_files, first_problem, read_sealed, write_sealed
from pipeline.store.store import LOCKS, VERIFIED, drop
from pipeline.store.verified_files import find_change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ENCODED = ".encoded"
PARTIAL = ".partial"
_NOTES, _READERS = "kept.json", "read_by"


@dataclass(frozen=True)
class Kept:
    """A folder that is whole. notes: what its maker wrote down of it, as JSON has it."""

    path: Path
    notes: Mapping[str, Any]


def find(folder: Path, payload: Mapping[str, Any], *, reader: str | None = None) -> Kept | None:
    """Return what is kept of this payload; None where there is nothing, or nothing whole.

    reader: the name of the result that it is read for, which is noted.
    """
    path = folder / fingerprint(payload)
    try:
        record = read_sealed(path / _NOTES)
        files = record["files"]
        trouble = first_problem(path, files, with_hashes=False) or find_change(
            path, files, record=_record(path), trusts_record=True
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if trouble is not None:
        return None
    _note_reader(path, reader)
    return Kept(path, record["notes"])


def find_or_make(
    folder: Path,
    payload: Mapping[str, Any],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    on_wait: Callable[[], None] = lambda: None,
    reader: str | None = None,
) -> Kept:
    """Return what is kept of this payload, made first where need be.

    make: writes files into a folder and returns the notes. on_wait: called again and again while
    another process makes it. reader: as of `find`. Two processes never make one thing at once.
    """
    if (kept := find(folder, payload, reader=reader)) is not None:
        return kept
    path = folder / fingerprint(payload)
    with hold(lock_path(path), on_wait=lambda _: on_wait()):
        if (kept := find(folder, payload, reader=reader)) is not None:
            return kept
        partial = path.with_name(path.name + PARTIAL)
        drop(partial)
        partial.mkdir(parents=True)
        try:
            # As JSON has them, so that they are the same now and when they are read back.
            notes = json.loads(json.dumps(make(partial), allow_nan=False))
            files = describe_files(partial, manifest=_NOTES)
            write_sealed(partial / _NOTES, {"files": files, "notes": notes})
        except BaseException:
            with suppress(OSError):  # the disk may need the room; the first error is told
                drop(partial)
            raise
        drop(path)
        partial.rename(path)
        forget_verified(path)
    _note_reader(path, reader)
    return Kept(path, notes)


def readers_of(path: Path) -> tuple[set[str], float]:
    """Return the results that a kept folder was read for, and when it was last read or made."""
    try:
        notes = list((path / _READERS).iterdir())
        times_s = [path.stat().st_mtime, *(note.stat().st_mtime for note in notes)]
    except OSError:
        return set(), path.stat().st_mtime if path.exists() else 0.0
    return {note.name for note in notes}, max(times_s)


def _note_reader(path: Path, reader: str | None) -> None:
    if reader is not None:
        with suppress(OSError):  # a full disk, or one that is only read: `clean` knows less then
            (path / _READERS).mkdir(exist_ok=True)
            (path / _READERS / reader).touch()


def lock_path(path: Path) -> Path:
    """Return the lock of a kept folder, or of one that is being made."""
    return path.parents[1] / LOCKS / f"{path.name.removesuffix(PARTIAL)}.lock"


def forget_verified(path: Path) -> None:
    """Drop the note of what was hashed of a folder."""
    with suppress(OSError):
        _record(path).unlink(missing_ok=True)


def _record(path: Path) -> Path:
    return path.parents[1] / VERIFIED / f"{path.name}.json"
