"""Files that are whole or do not count: hashing, flushing, and the one way a manifest is written.

A folder is finished when its manifest (`artifact.json` of a published stage, `MANIFEST.json` of a
checkpoint) is in it. The manifest is written last, after every file it names has been flushed to
the disk, and appears by one rename. No torch here.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, also after power loss."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_files(folder: Path, *, manifest: str) -> dict[str, dict[str, Any]]:
    """Flush and hash every file below `folder` but the manifest: relative name -> size, sha256."""
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path.relative_to(folder)} is a symbolic link; copy the file")
        if path.is_dir():
            flush_folder(path)
            continue
        name = path.relative_to(folder).as_posix()
        if name in {manifest, f".{manifest}.partial"}:
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        described[name] = {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return described


def first_problem(
    folder: Path, files: Mapping[str, Mapping[str, Any]], *, with_hashes: bool
) -> str | None:
    """Return what is wrong with the first file that is not as described, or None."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        size_bytes = path.stat().st_size
        if size_bytes != expected["size_bytes"]:
            return f"{name} has {size_bytes} bytes instead of {expected['size_bytes']}"
        if with_hashes and sha256_file(path) != expected["sha256"]:
            return f"{name} has other contents than were written (sha256 differs)"
    return None
