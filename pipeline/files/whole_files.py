"""Files that appear whole or not at all: written beside their place, flushed, renamed.

What a killed writer left beside it is taken over by the next one. No torch here.
"""

import ctypes
import fcntl
import os
from contextlib import suppress
from pathlib import Path

_AT_CWD = -100  # fcntl.h
_EXCHANGE = 2  # renameat2(2)


def write_whole(path: Path, text: str, *, is_flushed: bool = True) -> None:
    """Write a text so that a reader sees the old file or the whole new one.

    Two writers of one file come one after the other. is_flushed: also after power loss.
    """
    partial = path.with_name(f".{path.name}.partial")
    descriptor = _open_alone(partial)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if is_flushed:
                os.fsync(descriptor)
            partial.rename(path)
    except BaseException:
        with suppress(OSError):  # the disk may need the room; the first error is the one to tell
            partial.unlink()
        raise
    if is_flushed:
        flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or a folder's entries, so that what is there survives power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(new: Path, place: Path, aside: Path) -> None:
    """Rename a folder to a place; what is there already goes aside, and there is always one.

    Where the system cannot exchange two names in one step, there is none for a moment.
    """
    if place.exists():
        if _exchange(new, place):
            new.rename(aside)
            return
        place.rename(aside)
    new.rename(place)


def _exchange(one: Path, another: Path) -> bool:
    """Have two names change places in one step (Linux); say whether that was done."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (os.fsencode(one.absolute()), os.fsencode(another.absolute()))
    return rename is not None and rename(_AT_CWD, names[0], _AT_CWD, names[1], _EXCHANGE) == 0


def _open_alone(path: Path) -> int:
    """Return the descriptor of an empty file that no other process writes or has renamed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: then nobody can have two writers
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
