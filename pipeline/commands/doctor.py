"""`posttrain doctor`: what is here of what posttrain needs, and how to get what is not.

Looks and changes nothing; the only thing that it starts is a box of the sandbox. No network.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement

from pipeline.machine import memory_bytes, num_cores, num_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "absent", "broken"]

PYTHON = (3, 11)
TORCH_INDEX = "https://download.pytorch.org/whl"
# What each extra of pyproject.toml is for; `dev` is for who works on posttrain itself.
PURPOSES = {
    "gym": "tasks of reasoning-gym (`reasoning_gym(name=...)`)",
    "harness": "tasks of lm-evaluation-harness (`harness:`)",
    "gguf": "`export --gguf`, `--verify` by llama.cpp, and GGUF files taken in by `adopt`",
    "deepspeed": "models split over processes by DeepSpeed (`launch: {deepspeed: ...}`)",
    "qlora": "4-bit weights below an adapter (`load_in_4bit`)",
    "tensorboard": "`report_to: tensorboard`",
    "trackio": "`report_to: trackio`",
    "wandb": "`report_to: wandb`",
}
_FAST_BF16 = ("amx_bf16", "avx512_bf16")
_LOW_MEMORY_BYTES = 2 << 30
_LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what is there, and what to do where something is missing.

    state: `absent` is what can be done without; `broken` what posttrain does not work without.
    """

    section: str
    name: str
    state: State
    says: str
    hint: str = ""


def examine(runs: Path) -> Iterator[Finding]:
    """Yield what is found; runs: where results would be written."""
    yield from _versions()
    yield from _devices()
    yield from _room(runs)
    yield from _sandbox()
    yield from _optional()


def _versions() -> Iterator[Finding]:
    here = Path(__file__).parents[2]
    yield Finding("versions", "posttrain", "ok", f"{metadata.version('posttrain')} in {here}")
    python = platform.python_version()
    is_new_enough = sys.version_info >= PYTHON
    oldest = ".".join(map(str, PYTHON))
    yield Finding(
        "versions",
        "python",
        "ok" if is_new_enough else "broken",
        f"{python} ({platform.system()} {platform.machine()})",
        "" if is_new_enough else f"posttrain needs Python {oldest} or newer",
    )
    for requirement, extra in requirements():
        if not extra:
            yield _package("versions", requirement, "broken")


def _package(section: str, requirement: Requirement, without: State) -> Finding:
    """Return whether a package is there in a version that will do."""
    name = requirement.name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(section, name, without, "not installed", f"pip install '{requirement}'")
    if not requirement.specifier.contains(version, prereleases=True):
        words = f"{version}, and {requirement.specifier} is needed"
        return Finding(section, name, "broken", words, f"pip install '{requirement}'")
    return Finding(section, name, "ok", version)


def requirements() -> Iterator[tuple[Requirement, str]]:
    """Yield what the installed posttrain requires, each with the extra that it is of, or ""."""
    for line in metadata.requires("posttrain") or ():
        requirement = Requirement(line)
        extra = str(requirement.marker).partition("extra == ")[2].strip("\"'")
        requirement.marker = None
        yield requirement, extra


def _devices() -> Iterator[Finding]:
    import torch

    threads = os.environ.get("OMP_NUM_THREADS")
    words = f"{num_cores()} cores, {torch.get_num_threads()} threads"
    words += f" (OMP_NUM_THREADS is {threads})" if threads else ""
    yield Finding("devices", "cpu", "ok", f"{words}, {torch.backends.cpu.get_cpu_capability()}")
    fast = [flag for flag in _FAST_BF16 if flag in _cpu_flags()]
    if fast:
        yield Finding("devices", "bf16 on cpu", "ok", f"fast ({', '.join(fast)})")
    else:
        words = f"works, without {' or '.join(_FAST_BF16)} slower than fp32"
        yield Finding(
            "devices", "bf16 on cpu", "absent", words, "`precision: fp32` on this machine"
        )
    present = num_gpus(os.environ)
    usable = torch.cuda.device_count()
    for number in range(usable):
        properties = torch.cuda.get_device_properties(number)
        words = f"{properties.name}, {_gib(properties.total_memory)}"
        words += ", bf16" if torch.cuda.is_bf16_supported() else ", no bf16: write fp16"
        yield Finding("devices", f"gpu {number}", "ok", words)
    if present > usable:
        built = torch.version.cuda or "no CUDA"
        words = f"{present} here, of which torch (built for {built}) can use {usable}"
        hint = f"install torch for your driver: pip install torch --index-url {TORCH_INDEX}/cu130"
        yield Finding("devices", "gpu", "broken", words, hint)
    elif torch.backends.mps.is_available():
        yield Finding("devices", "gpu", "ok", "Apple's (MPS)")
    elif not usable:
        yield Finding("devices", "gpu", "absent", "none: everything runs on the CPU")


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return set()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())


def _room(runs: Path) -> Iterator[Finding]:
    memory = memory_bytes()
    yield Finding(
        "room",
        "memory",
        "ok" if memory >= _LOW_MEMORY_BYTES else "broken",
        f"{_gib(memory)} (RAM and swap, or this container's limit)",
        "" if memory >= _LOW_MEMORY_BYTES else "importing torch and TRL alone takes about 1 GiB",
    )
    yield _folder("results", runs, "name another folder with --runs")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface").expanduser()
    yield _folder("hub cache", home, "set HF_HOME to a folder with room")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    words = "not asked (HF_HUB_OFFLINE is set)" if offline else "asked for `owner/name` in a recipe"
    yield Finding("room", "hub", "absent" if offline else "ok", words)


def _folder(name: str, folder: Path, hint: str) -> Finding:
    """Return what room a folder has, or the one that it would be made in."""
    path = folder.absolute()
    there = next(above for above in (path, *path.parents) if above.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding("room", name, "broken", f"{folder} cannot be written", hint)
    free = shutil.disk_usage(there).free
    state: State = "ok" if free >= _LOW_DISK_BYTES else "broken"
    return Finding("room", name, state, f"{folder}, {_gib(free)} free", hint * (state != "ok"))


def _sandbox() -> Iterator[Finding]:
    from reward.boxes.confine import landlock_version
    from reward.sandbox import SandboxUnavailable, require_sandbox

    try:
        require_sandbox()
    except SandboxUnavailable as error:
        hint = "code, sql, humaneval, mbpp and reasoning_gym, and their rewards, are refused here"
        yield Finding("sandbox", "programs", "absent", f"cannot run: {error}", hint)
        return
    user = "another user" if os.geteuid() == 0 else "this user, without capabilities"
    words = f"Landlock version {landlock_version()}, seccomp, resource limits, as {user}"
    yield Finding("sandbox", "programs", "ok", f"run confined: {words}")


def _optional() -> Iterator[Finding]:
    for requirement, extra in requirements():
        if extra in ("", "dev"):
            continue
        package = _package("optional", requirement, "absent")
        purpose = PURPOSES.get(extra, "")
        hint = f"pip install 'posttrain[{extra}]'" if package.state != "ok" else ""
        says = f"{package.says}: {purpose}" if purpose else package.says
        yield Finding("optional", extra, package.state, says, hint)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB"
