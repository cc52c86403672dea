"""How much room a file or a folder takes on the disk."""

import os
from contextlib import suppress
from pathlib import Path


def tree_bytes(folder: Path) -> int:
    """Return the size of a file, or of all files below a folder, in bytes; links count nothing."""
    if folder.is_symlink() or not folder.is_dir():
        return 0 if folder.is_symlink() else folder.stat().st_size
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # of a stage at work
                total += os.lstat(os.path.join(inner, name)).st_size  # noqa: PTH118  fast
    return total
