"""Files that have an end: a pipe blocks whoever opens it, a device or a kernel log never ends.

Asked before anything of somebody else's is opened. Opens nothing itself.
"""

import stat
from pathlib import Path

COPY_IT = "copy what it holds into a file"
_KERNELS = ("/proc", "/sys")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def other_than_a_file(path: Path) -> str | None:
    """Return what a path leads to, if that is not a file with an end (say `a pipe`); else None.

    None also where nothing is there, or cannot be looked at: opening it says why.
    """
    try:
        mode = path.stat().st_mode
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    for is_kind, name in _KINDS:
        if is_kind(mode):
            return name
    # They look regular, but some of them block, and some never end.
    if any(real.is_relative_to(folder) for folder in _KERNELS):
        return f"the kernel's own {real}"
    return None
