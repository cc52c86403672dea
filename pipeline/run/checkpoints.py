"""Whole checkpoints: one counts only when its MANIFEST.json is there and every file matches it.

The upstream Trainer writes into `checkpoint-N` file by file, so a kill leaves half of one. Here a
checkpoint is sealed after it is written (flushed, hashed, manifest by rename), the newest one that
verifies is resumed from, and a torn one is named and passed over. Older ones are deleted only after
a newer one verifies.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.run.manifest import describe_files, first_problem, write_json

MANIFEST = "MANIFEST.json"
_KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint, if any, and what was wrong with newer ones, a line each."""

    path: Path | None
    step: int
    passed_over: tuple[str, ...]


def seal(
    folder: Path, step: int, max_steps: int, *, metrics_bytes: int, best: Path | None = None
) -> None:
    """Make a written checkpoint count, then drop all but the newest two and the best one.

    metrics_bytes: length of the stage's metrics.jsonl at this step; a resumed run continues from
    there.
    """
    files = describe_files(folder, manifest=MANIFEST)
    write_json(
        folder / MANIFEST,
        {
            "format": 1,
            "step": step,
            "max_steps": max_steps,
            "metrics_bytes": metrics_bytes,
            "files": files,
        },
    )
    if first_problem(folder, files, with_hashes=True) is None:
        for _, older in _by_step(folder.parent)[_KEPT:]:
            if best is None or older.name != best.name:
                shutil.rmtree(older)


def read_manifest(folder: Path) -> dict[str, int]:
    """Return step, max_steps and metrics_bytes of a checkpoint that `newest_whole` found."""
    manifest = json.loads((folder / MANIFEST).read_text())
    return {key: int(manifest[key]) for key in ("step", "max_steps", "metrics_bytes")}


def newest_whole(folder: Path) -> Found:
    """Find the newest checkpoint whose every file is what its manifest says.

    One that was never sealed (the kill came while it was written) is passed over without a word: it
    never counted.
    """
    passed_over: list[str] = []
    for step, path in _by_step(folder):
        if not (path / MANIFEST).exists():
            continue
        trouble = _trouble(path)
        if trouble is None:
            return Found(path, step, tuple(passed_over))
        passed_over.append(f"{path.name}: {trouble}")
    return Found(None, 0, tuple(passed_over))


def has_any(folder: Path) -> bool:
    """Say whether a sealed checkpoint is there, without reading it."""
    return any((path / MANIFEST).exists() for _, path in _by_step(folder))


def _trouble(path: Path) -> str | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        return first_problem(path, manifest["files"], with_hashes=True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is not readable"


def _by_step(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found, reverse=True)
