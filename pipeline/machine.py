"""What can be known of the machine without torch: its cores, its GPUs and its memory."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# NVIDIA; Windows' own GPU in WSL; AMD.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def may_have_gpu() -> bool:
    """Whether a GPU may be there; False is certain. What torch can use of it is torch's to say."""
    return sys.platform == "darwin" or any(Path(name).exists() for name in _DEVICE_FILES)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return how many NVIDIA GPUs a process with this environment sees."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    present = len([path for path in devices.glob("nvidia*") if path.name[6:].isdigit()])
    if visible is None:
        return present
    return min(
        present, len([number for number in visible.split(",") if number.strip() not in ("", "-1")])
    )


def most_jobs() -> int:
    """Return how many stages can run side by side without sharing a GPU or a core."""
    return num_gpus(os.environ) or num_cores()


def threads_of(processes: int) -> int:
    """Return the threads of each of so many processes that run at once.

    OMP_NUM_THREADS, else an equal share of the cores.
    """
    from_environment = int(os.environ.get("OMP_NUM_THREADS", "0") or "0")
    return from_environment or max(1, num_cores() // processes)


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
