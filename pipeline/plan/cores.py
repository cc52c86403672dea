"""What this machine has room for: its cores and GPUs, counted without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.recipe.launching import processes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.recipe.recipe import Recipe

# Two on one core are slow and right, as a test of what several do; thousands are a slip.
PROCESSES_A_CORE = 4


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


def threads_of(processes: int) -> int:
    """Return the threads of each of so many processes: OMP_NUM_THREADS, else a share of cores."""
    from_environment = int(os.environ.get("OMP_NUM_THREADS", "0") or "0")
    return from_environment or max(1, num_cores() // processes)


def check_machine(recipe: Recipe, names: Iterable[str] | None = None) -> None:
    """Raise PosttrainError if a stage asks for more processes than this machine has room for."""
    for name in recipe.stages if names is None else names:
        config = recipe.stages[name]
        processes = processes_of(recipe, config)
        gpus = num_gpus({**os.environ, **processes.environment})
        cores = num_cores()
        limit = gpus or PROCESSES_A_CORE * cores
        if processes.count <= limit:
            continue
        has = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else f"no GPU and {cores} cores"
        message = f"`{name}` asks for {processes.count} processes, and this machine has {has}"
        at = ("stages", name, "launch") if config.launch is not None else ("launch",)
        raise recipe.error(at, message, f"write `processes: {gpus or cores}` or less")
