"""What can be known of the machine without torch: whether a GPU may be there, its memory."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# NVIDIA; Windows' own GPU in WSL; AMD.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def may_have_gpu() -> bool:
    """Whether a GPU may be there; False is certain. What torch can use of it is torch's to say."""
    return sys.platform == "darwin" or any(Path(name).exists() for name in _DEVICE_FILES)


def memory_bytes() -> int:
    """Return all the memory that this machine can give one process: RAM and swap, or a limit."""
    known = {"MemTotal": 0, "SwapTotal": 0}
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in known:
                known[name] = int(rest.split()[0]) * 1024
    except OSError:  # no Linux
        known["MemTotal"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([sum(known.values()), *_limits()])


def _limits() -> Iterator[int]:
    """Yield what this process or its container may use at most; control groups of both versions."""
    try:
        import resource
    except ImportError:  # no POSIX
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            yield int((_CONTROL_GROUP / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # not there, or `max`
            continue
