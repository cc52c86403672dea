"""Files that appear whole or not at all: written beside their place, flushed, renamed.

What a killed writer left beside it is taken over by the next one. No torch here.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text so that a reader sees the old file or the whole new one, also after power loss.

    Two writers of one file come one after the other.
    """
    partial = path.with_name(f".{path.name}.partial")
    descriptor = _open_alone(partial)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
            partial.rename(path)
    except BaseException:
        with suppress(OSError):  # the disk may need the room; the first error is the one to tell
            partial.unlink()
        raise
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or a folder's entries, so that what is there survives power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
