"""Whole checkpoints: one counts only when its MANIFEST.json is there and every file matches it.

The upstream Trainer writes into `checkpoint-N` file by file, so a kill leaves half of one. Here a
checkpoint is sealed after it is written (flushed, hashed, manifest by rename), the newest one that
verifies is resumed from, and a torn one is named and passed over. Older ones are deleted only after
a newer one verifies. All that a resumed run relies on is in it: the metrics so far, how the stage
was run, and which checkpoint is the best one.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files.names import MANIFEST, METRICS
from pipeline.files.whole_files import flush
from pipeline.store.manifest import (
    describe_files,
    first_extra,
    first_problem,
    read_sealed,
    write_sealed,
)

_FORMAT = 2
KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Made:
    """What makes a checkpoint: the stage, how it is run, and whether its numbers are exact."""

    fingerprint: str
    execution: Mapping[str, Any]
    is_exact: bool


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint, if any, and a line about each newer one that is torn."""

    path: Path | None
    step: int
    made: Made | None
    passed_over: tuple[str, ...]


def seal(
    folder: Path, step: int, max_steps: int, *, made: Made, metrics: Path, best: Path | None = None
) -> None:
    """Make a written checkpoint count, then drop all but the newest two and the best one.

    metrics: the stage's metrics.jsonl, copied as it is now; a resumed run continues it from there.
    """
    if metrics.exists():
        shutil.copyfile(metrics, folder / METRICS)
    files = describe_files(folder, manifest=MANIFEST)
    write_sealed(
        folder / MANIFEST,
        {
            "format": _FORMAT,
            "fingerprint": made.fingerprint,
            "execution": made.execution,
            "is_exact": made.is_exact,
            "step": step,
            "max_steps": max_steps,
            "best": best.name if best else None,
            "files": files,
        },
    )
    flush(folder.parent)
    if first_problem(folder, files, with_hashes=True) is None:
        for _, older in _by_step(folder.parent)[KEPT:]:
            if best is None or older.name != best.name:
                shutil.rmtree(older)


def newest_whole(folder: Path) -> Found:
    """Find the newest checkpoint whose every file is what its manifest says.

    One that was never sealed (the kill came while it was written) is passed over without a word: it
    never counted.
    """
    passed_over: list[str] = []
    for step, path in _by_step(folder):
        if not (path / MANIFEST).exists():
            continue
        try:
            record = _verify(path)
            if record["best"] not in (None, path.name):
                _verify_best(folder / record["best"])
        except FileNotFoundError:  # a run at work has dropped it since, when `status` looks
            passed_over.append(f"{path.name}: it is gone")
            continue
        except ValueError as error:
            passed_over.append(f"{path.name}: {error}")
            continue
        made = Made(record["fingerprint"], record["execution"], record["is_exact"])
        return Found(path, step, made, tuple(passed_over))
    return Found(None, 0, None, tuple(passed_over))


def has_any(folder: Path) -> bool:
    """Say whether a sealed checkpoint is there, without reading it."""
    return any((path / MANIFEST).exists() for _, path in _by_step(folder))


def _verify(path: Path) -> dict[str, Any]:
    """Return what a checkpoint's manifest says; ValueError says what is wrong with either."""
    try:
        record = read_sealed(path / MANIFEST)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} {error}") from error
    if record.get("format") != _FORMAT:
        raise ValueError(f"{MANIFEST} was written by another version of posttrain")
    if path.name != f"checkpoint-{record['step']}":
        raise ValueError(f"it is the one of step {record['step']}")
    trouble = first_problem(path, record["files"], with_hashes=True)
    if trouble is not None:
        raise ValueError(trouble)
    extra = first_extra(path, record["files"], manifest=MANIFEST)
    if extra is not None:
        raise ValueError(f"{extra} was not written with it, and may change what is loaded")
    return record


def _verify_best(path: Path) -> None:
    """Raise ValueError unless the best checkpoint, which training ends with, is whole."""
    try:
        _verify(path)
    except FileNotFoundError as error:
        raise ValueError(f"the best one so far, {path.name}, is gone") from error
    except ValueError as error:
        raise ValueError(f"the best one so far, {path.name}, is not whole: {error}") from error


def _by_step(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints, newest first."""
    if not folder.is_dir():
        return []
    numbered = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(numbered, reverse=True)
