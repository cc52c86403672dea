"""What can be known of the machine without torch: its cores, its GPUs and its memory."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# NVIDIA; Windows' own GPU in WSL; AMD.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_MIG = Path("/proc/driver/nvidia/capabilities")
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def may_have_gpu() -> bool:
    """Whether a GPU may be there; False is certain. What torch can use of it is torch's to say."""
    return sys.platform == "darwin" or any(Path(name).exists() for name in _DEVICE_FILES)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return how many NVIDIA GPUs a process with this environment sees."""
    return len(visible_gpus(environment, devices))


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Return what names each NVIDIA GPU that a process sees: its number, or a UUID.

    As CUDA reads CUDA_VISIBLE_DEVICES: up to the first entry that names no GPU, each once. A part
    of a GPU (MIG) counts as one. Without the variable, all there are.
    """
    present = len([path for path in devices.glob("nvidia*") if path.name[6:].isdigit()])
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is None or not present:
        return (mig_names(_listed_gpus()) if present and _has_parts() else None) or [
            str(number) for number in range(present)
        ]
    names: list[str] = []
    for name in (entry.strip() for entry in given.split(",")):
        is_there = int(name) < present if name.isdigit() else name.startswith(("GPU-", "MIG-"))
        if not is_there:
            break
        names.append(name)
    unique = list(dict.fromkeys(names))
    return unique if any(map(is_part, unique)) else unique[:present]


def is_part(gpu: str) -> bool:
    """Whether a GPU is a part of one (MIG), which a single process can use."""
    return gpu.startswith("MIG-")


def mig_names(listed: str) -> list[str]:
    """Return the names of all GPUs, of those in parts the parts'. listed: by `nvidia-smi -L`."""
    names: list[str] = []
    whole = ""
    for found in re.finditer(r"UUID: ((GPU|MIG)-[^)\s]+)\)", listed):
        name = found[1]
        if is_part(name) and names and names[-1] == whole:
            names.pop()
        whole = whole if is_part(name) else name
        names.append(name)
    return names


def _has_parts() -> bool:
    return any(_MIG.glob("gpu*/mig/gi*"))


def _listed_gpus() -> str:
    """Return what nvidia-smi says of the GPUs; nothing where it says nothing."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout


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
