"""Files that somebody else wrote: are they readable, and do they hold one JSON object?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.plain_files import other_than_a_file

if TYPE_CHECKING:
    from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/"
_LARGEST_BYTES = 500_000_000  # the largest published tokenizer.json has 35 MB
_PAGE = (b"<!doctype", b"<html")
_AGAIN = "copy or download it again"
DOWNLOAD_AGAIN = "the download went wrong (is a login needed?); download it again"


def is_there(path: Path) -> bool:
    """Whether there is anything of this name, be it a link that leads nowhere."""
    return path.is_symlink() or path.exists()


def check_readable(path: Path) -> None:
    """Raise PosttrainError for what is not a file itself: a folder, a dead link, a pointer."""
    if path.is_dir():
        raise PosttrainError(str(path), "is a folder, and a file is expected", "rename it")
    if path.is_symlink() and not path.exists():
        message = f"is a link to {path.readlink()}, which is not there"
        raise PosttrainError(str(path), message, "copy the file itself")
    kind = other_than_a_file(path)
    if kind is not None:
        message = f"is {kind}, no regular file"
        raise PosttrainError(str(path), message, "remove it, or copy the file itself")
    refuse_pointer(path, str(path))


def refuse_pointer(path: Path, name: str) -> None:
    """Raise PosttrainError for what git puts in the place of a large file; name: for the error."""
    try:
        with path.open("rb") as stream:
            is_pointer = stream.read(len(_LFS)) == _LFS
    except OSError as error:
        raise PosttrainError(name, f"cannot be read ({error.strerror})") from error
    if is_pointer:
        hint = "fetch the file itself with `git lfs pull`"
        raise PosttrainError(name, "is a git-lfs pointer, not the file it stands for", hint)


def is_web_page(path: Path) -> bool:
    """Whether a file begins as a web page, which a download that went wrong leaves behind."""
    with path.open("rb") as stream:
        return stream.read(64).lstrip().lower().startswith(_PAGE)


def read_text(path: Path) -> str:
    """Return a file's text; PosttrainError or CorruptArtifactError for anything else."""
    check_readable(path)
    if path.stat().st_size > _LARGEST_BYTES:
        message = f"is larger than {_LARGEST_BYTES // 1_000_000} MB"
        raise PosttrainError(str(path), message, "no such file of a model is: look at what it is")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptArtifactError(str(path), f"is not UTF-8 ({error.reason})", _AGAIN) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; PosttrainError or CorruptArtifactError without one."""
    text = read_text(path)
    if not text.strip():
        raise CorruptArtifactError(str(path), "is empty", _AGAIN)
    if is_web_page(path):
        raise CorruptArtifactError(str(path), "is a web page, not JSON", DOWNLOAD_AGAIN)
    try:
        record: Any = json.loads(text)
    except RecursionError as error:
        raise CorruptArtifactError(str(path), "is nested too deeply", _AGAIN) from error
    except ValueError as error:
        raise CorruptArtifactError(str(path), f"is not JSON ({error})", _AGAIN) from error
    if not isinstance(record, dict):
        kind = "null" if record is None else f"a {type(record).__name__}"
        raise CorruptArtifactError(str(path), f"holds {kind}, and an object is expected", _AGAIN)
    return cast("dict[str, Any]", record)
