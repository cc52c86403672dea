"""Locks that the kernel drops when their owner dies, however it dies: a killed one blocks nobody.

On a file of its own, or on a folder that only one process may fill. No torch here.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import InfrastructureError

_POLL_S = 0.2


@contextmanager
def hold(path: Path, *, on_wait: Callable[[str], None] | None = None) -> Generator[int]:
    """Hold a lock file, made if need be; yields the descriptor, which a child may inherit.

    on_wait: called with the owner's text, again and again, while another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not try_lock(descriptor, path):
            if on_wait is not None:
                on_wait(owner_of(descriptor))
            time.sleep(_POLL_S)
        _sign(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold_if_free(path: Path) -> Generator[str | None]:
    """Hold a lock file if nobody else does; yields None, or the text of who does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if try_lock(descriptor, path):
            _sign(descriptor)
            yield None
        else:
            yield owner_of(descriptor) or "another process"
    finally:
        os.close(descriptor)


def holder_of(path: Path) -> str | None:
    """Return who holds the lock of a file or folder, None if nobody does; makes no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if try_lock(descriptor, path):
            return None
        return (owner_of(descriptor) if path.is_file() else "") or "another process"
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, path: Path) -> bool:
    """Lock an open file or folder if no other process holds it; return whether that worked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        message = f"this file system cannot lock files ({error})"
        raise InfrastructureError(str(path), message, "use --runs elsewhere") from error
    return True


def owner_of(descriptor: int) -> str:
    """Return what the holder of a lock file wrote into it."""
    return os.pread(descriptor, 200, 0).decode(errors="replace")


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # it is only shown to those who wait, and a disk may be full
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
