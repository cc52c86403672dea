"""Files that are whole or do not count: hashing, flushing, and the one way a manifest is written.

A folder is finished when its manifest (`artifact.json` of a published stage, `MANIFEST.json` of a
checkpoint) is in it. The manifest is written last, after every file it names has been flushed to
the disk, and appears by one rename. A sealed one carries the sha256 of its own text. No torch here.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

from pipeline.files.whole_files import flush, write_whole

_BLOCK_BYTES = 1 << 20
# The end of a sealed text: the sha256 of every byte before it.
_SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n\Z')


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, also after power loss."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_sealed(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_json` does, with the sha256 of its text as its last field."""
    body = json.dumps(fields, indent=1, allow_nan=False).removesuffix("\n}")
    digest = hashlib.sha256(body.encode()).hexdigest()
    write_whole(path, f'{body},\n "sha256": "{digest}"\n}}\n')


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the object that `write_sealed` wrote, without its sha256.

    Raises ValueError that says what is wrong with a file that is not as it was written, in a way
    that follows its name; OSError for one that cannot be read.
    """
    content = path.read_bytes()
    if not content.strip(b"\0 \n"):
        raise ValueError("is empty")
    seal = _SEAL.search(content)
    if seal is None:
        raise ValueError("is cut short, changed, or of another version (no sha256 at its end)")
    body = content[: seal.start()]
    if hashlib.sha256(body).hexdigest() != seal[1].decode():
        raise ValueError("is not as it was written (its own sha256 differs)")
    try:
        fields = json.loads(body + b"\n}")
    except (ValueError, RecursionError) as error:
        raise ValueError("is no JSON") from error
    if not isinstance(fields, dict):
        raise ValueError("holds no JSON object")  # noqa: TRY004  of the file, not of an argument
    return cast("dict[str, Any]", fields)


def describe_files(folder: Path, *, manifest: str) -> dict[str, dict[str, Any]]:
    """Flush and hash every file below `folder` but the manifest: relative name -> size, sha256."""
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path.relative_to(folder)} is a symbolic link; copy the file")
        if path.is_dir():
            flush(path)
            continue
        name = path.relative_to(folder).as_posix()
        if name in {manifest, f".{manifest}.partial"}:
            continue
        flush(path)
        described[name] = {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return described


def first_problem(
    folder: Path, files: Mapping[str, Mapping[str, Any]], *, with_hashes: bool
) -> str | None:
    """Return what is wrong with the first file that is not as described, or None."""
    for name, expected in files.items():
        path = folder / name
        try:
            state = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
            return f"{name[:80]} cannot be read ({error})"
        if not S_ISREG(state.st_mode):
            return f"{name} is a link or a folder, and a file was written"
        if state.st_size != expected["size_bytes"]:
            return f"{name} has {state.st_size} bytes instead of {expected['size_bytes']}"
        if with_hashes and sha256_file(path) != expected["sha256"]:
            return f"{name} {OTHER_CONTENTS}"
    return None


def first_extra(folder: Path, files: Mapping[str, Any], *, manifest: str) -> str | None:
    """Return the name of a file that the manifest does not know: libraries load what they find.

    Hidden files are nobody's to load: what a file browser or a network file system leaves.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if not (is_folder or path.name.startswith(".") or name == manifest or name in files):
            return name
    return None


OTHER_CONTENTS = "has other contents than were written (sha256 differs)"
