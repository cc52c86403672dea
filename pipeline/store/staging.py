"""Folders that appear whole or not at all, outside of the store: exports, comparisons.

Each is filled in a hidden folder beside its place, which only one process may use at a time, and
renamed. What a killed process left there is taken over: nothing has to be removed by hand.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import PosttrainError
from pipeline.files.whole_files import flush, is_at, put_in_place
from pipeline.store.locks import try_lock

_REPLACED = "replaced"  # in the hidden folder: what lay in the place before, until the new one does


@contextmanager
def staging(target: Path) -> Generator[Path]:
    """Yield an empty folder beside `target`, to be filled and then `put` there.

    Raises PosttrainError where another process is at the same target.
    """
    folder = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_alone(folder, target)
    try:
        _settle(folder, target)
        yield folder
    finally:
        with suppress(OSError):  # the next one does it
            _settle(folder, target)
            folder.rmdir()
        os.close(descriptor)


def put(content: Path, target: Path) -> None:
    """Make a folder inside the one of `staging` the target; an earlier target is gone then."""
    _flush_files(content)
    put_in_place(content, target, content.parent / _REPLACED)
    flush(target.parent)


def _open_alone(folder: Path, target: Path) -> int:
    """Make the folder if need be and lock it; returns the descriptor that holds the lock."""
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if not try_lock(descriptor, folder):
            os.close(descriptor)
            message = "another process is writing it"
            raise PosttrainError(str(target), message, "wait for it, or name another folder")
        if is_at(descriptor, folder):
            return descriptor
        os.close(descriptor)  # it was the other's, which has just ended


def _settle(folder: Path, target: Path) -> None:
    """Empty the folder; put back what had made room for something that never came."""
    replaced = folder / _REPLACED
    if replaced.exists() and not target.exists():
        replaced.rename(target)
        flush(target.parent)
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _flush_files(folder: Path) -> None:
    for inner, _, names in os.walk(folder):
        for name in names:
            flush(Path(inner) / name)
        flush(Path(inner))
