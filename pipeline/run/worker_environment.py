"""The environment of a worker process: made by whoever starts it, read and checked by the worker.

The names are torch.distributed's, so that Accelerate finds the other processes by them. What
libraries read when they are imported is pipeline/environment.py's subject.
"""

from __future__ import annotations

import os
import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.environment import set_environment
from pipeline.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Mapping

PARENT = "POSTTRAIN_PARENT"  # the process that a worker must not outlive
# What `accelerate launch` sets, and a shell may have kept.
_SPLITTERS = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
# Below the ports that the kernel gives to whoever asks for any.
_PORTS = range(20_000, 32_000)
_TRIES = 50


@dataclass(frozen=True)
class Group:
    """The processes that share a stage: how many, with how many threads each.

    environment: what each of them is told beside this process's own (`Processes`).
    """

    count: int
    threads: int
    environment: Mapping[str, str]


def environments(group: Group) -> list[dict[str, str]]:
    """Return the environment of each process of a group, in the order of their ranks."""
    shared = {
        **os.environ,
        **group.environment,
        "PYTHONUNBUFFERED": "1",
        PARENT: str(os.getpid()),
    }
    if group.count == 1:
        return [shared]
    shared |= {
        "OMP_NUM_THREADS": str(group.threads),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(group.count),
        "LOCAL_WORLD_SIZE": str(group.count),
    }
    shared.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # how each misses one that has failed
    return [
        {**shared, "RANK": str(number), "LOCAL_RANK": str(number)} for number in range(group.count)
    ]


def enter_environment(name: str, processes: int) -> None:
    """Check this process's environment and set what is missing, before any library reads it.

    name: of the stage. Refuses to train alone, or in a crowd, where the recipe says otherwise.
    """
    started = num_processes()
    if started != processes:
        message = f"WORLD_SIZE is {started}, the recipe asks for {processes}"
        hint = "start posttrain once; `launch:` in the recipe says how many processes it starts"
        raise InfrastructureError(name, message, hint)
    split = [name for name in _SPLITTERS if os.environ.get(name, "").lower() in ("1", "true")]
    if split:
        message = f"{split[0]} is set, and `launch` in the recipe says what is split"
        raise InfrastructureError(name, message, "unset it")
    if processes == 1:  # left there by whatever started the runner; Accelerate would believe it
        for variable in ("RANK", "LOCAL_RANK"):
            os.environ.pop(variable, None)
    set_environment()


def num_processes() -> int:
    """Return how many processes share the stage, as this one was told."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of them this one is, from 0."""
    return int(os.environ.get("RANK", "0"))


def _free_port() -> int:
    """Return a port on which nobody listens, for the processes to meet at."""
    generator = random.SystemRandom()
    for _ in range(_TRIES):
        port = generator.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise InfrastructureError("launch", "no port is free for the processes to meet at")
