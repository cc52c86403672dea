"""Starts the processes of a stage, waits for all of them, and says why they failed if they did.

One process, or several that share the work (ranks; torch.distributed's names are in their
environment). The kernel kills each of them when the runner dies, however it dies, and each holds
the stage's lock: while one of them lives, nobody else writes. When one fails the others end too,
since they would wait for it.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import errors
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError
from pipeline.run import worker
from pipeline.run.interrupt import held_back

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.run.interrupt import StopRequest
    from pipeline.store.store import Working

_POLL_S = 0.05
# What the others get to end by themselves, and to say why: after a failure, after a stop.
_GRACE_S = 5.0
_GRACE_TO_STOP_S = 120.0
_COUNTS = Path("/proc/vmstat")
_GO_ON = "run again to go on from the newest checkpoint"
# Below the ports that the kernel gives to whoever asks for any.
_PORTS = range(20_000, 32_000)
_TRIES = 50


@dataclass(frozen=True)
class Group:
    """What is started: so many processes, with so many threads each, in an environment."""

    count: int
    threads: int
    environment: Mapping[str, str]


def run_group(working: Working, group: Group, *, name: str, stop: StopRequest, lock: int) -> None:
    """Run the worker in all processes of the group and wait for them.

    Raises the stage's own PosttrainError, or InfrastructureError where a process died.
    """
    for path in working.path.glob(worker.ERRORS):
        path.unlink()
    ranks: list[subprocess.Popen[bytes]] = []
    num_signals = 0
    had_killed = _killed_for_memory()

    def forward(number: int) -> None:
        nonlocal num_signals
        num_signals += 1
        for rank in ranks:
            rank.send_signal(number)

    killed: set[int] = set()
    try:
        with held_back():  # until they can be told; each of them until it listens
            if stop.is_requested:
                raise InterruptedRunError(name, "stopped on request", _GO_ON)
            _start(ranks, working, group, lock)
            stop.forward_to = forward
        killed = _wait(ranks, lambda: num_signals > 1)
    finally:
        stop.forward_to = None
        _kill(ranks)
    codes = [rank.returncode for rank in ranks]
    if any(codes):
        was_stopped = num_signals > 0
        raise _failure(name, working, codes, killed, was_stopped=was_stopped, had_killed=had_killed)


def _start(ranks: list[subprocess.Popen[bytes]], working: Working, group: Group, lock: int) -> None:
    """Start all processes; the first one shows its progress here, the others write to a file.

    `-P` keeps the current folder off sys.path.
    """
    command = [sys.executable, "-P", "-m", "pipeline.run.worker", str(working.path)]
    given = {
        **os.environ,
        **group.environment,
        "PYTHONUNBUFFERED": "1",
        worker.PARENT: str(os.getpid()),
    }
    if group.count > 1:
        given["OMP_NUM_THREADS"] = str(group.threads)
        given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        given |= {"WORLD_SIZE": str(group.count), "LOCAL_WORLD_SIZE": str(group.count)}
        given.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # how each misses one that has failed
    try:
        for number in range(group.count):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)} if group.count > 1 else {}
            with (working.path / f"rank-{number}.txt").open("wb") as said:
                rank = subprocess.Popen(
                    command,
                    env={**given, **own},
                    pass_fds=(lock,),
                    start_new_session=True,
                    stdout=said if number else None,
                    stderr=said if number else None,
                )
            ranks.append(rank)
    except OSError as error:
        message = f"process {len(ranks) + 1} of {group.count} cannot be started ({error})"
        raise InfrastructureError(working.path.name, message) from error


def _wait(ranks: Sequence[subprocess.Popen[bytes]], is_urgent: Any) -> set[int]:
    """Wait until all have ended; kill those that do not after one failed. Returns their numbers."""
    due_s: float | None = None
    while (codes := [rank.poll() for rank in ranks]).count(None):
        failed = [code for code in codes if code]
        now_s = time.monotonic()
        if due_s is None and (failed or is_urgent()):
            asked_to = is_urgent() or failed[0] != InterruptedRunError.exit_code
            due_s = now_s + (_GRACE_S if asked_to else _GRACE_TO_STOP_S)
        if due_s is not None and now_s > due_s:
            _kill(ranks)
            return {number for number, code in enumerate(codes) if code is None}
        time.sleep(_POLL_S)
    return set()


def _kill(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
    for rank in ranks:
        rank.wait()


def _failure(
    name: str,
    working: Working,
    codes: Sequence[int],
    killed: set[int],
    *,
    was_stopped: bool,
    had_killed: int | None,
) -> PosttrainError:
    """Return why the group failed: what a rank says of itself before what others say of it."""
    records = {number: _record(working, number) for number in range(len(codes))}
    raised = [each for each in records.values() if each is not None and "class" in each]
    stops = [each for each in raised if each["class"] == InterruptedRunError.__name__]
    for record in [*(each for each in raised if each not in stops), *stops]:
        kind: type[PosttrainError] = getattr(errors, record["class"])
        return kind(record["where"], record["message"], record["hint"])
    died = [(number, -code) for number, code in enumerate(codes) if code < 0]
    by_themselves = [each for each in died if each[0] not in killed]
    codes_of_stop = (InterruptedRunError.exit_code, -signal.SIGINT, -signal.SIGTERM)
    if was_stopped and all(code in (0, *codes_of_stop, -signal.SIGKILL) for code in codes):
        return InterruptedRunError(name, "stopped on request", _GO_ON)
    if by_themselves:
        number, by = by_themselves[0]
        reason = f"{_process(number, codes)} was killed by {signal.Signals(by).name}"
        if by == signal.SIGKILL:
            more, advice = _explained(had_killed)
            return InfrastructureError(name, f"{reason}{more}", advice)
        return InfrastructureError(name, reason, "see above for why")
    crashes = [(record["time_s"], number) for number, record in records.items() if record]
    if crashes:
        number = min(crashes)[1]
        record = records[number] or {}
        sys.stderr.write(errors.printable(record["traceback"]))
        return InfrastructureError(
            name, f"{_process(number, codes)} failed: {record['said']}", "see above for where"
        )
    number = next(number for number, code in enumerate(codes) if code)
    reason = f"{_process(number, codes)} left with code {codes[number]}"
    said = "see above for why" if number == 0 else f"see {working.path / f'rank-{number}.txt'}"
    return InfrastructureError(name, reason, said)


def _explained(had_killed: int | None) -> tuple[str, str]:
    """Return what is known of why a process was killed, and what to do about it.

    had_killed: how many processes the kernel had killed for memory when this one was started.
    """
    lower = "lower `per_device_train_batch_size`"
    now = _killed_for_memory()
    if had_killed is None or now is None:
        return "", f"if that was the kernel, memory ran out: {lower}"
    if now > had_killed:
        return ", as the kernel does when memory runs out", lower
    return ", though not by the kernel for want of memory", _GO_ON


def _killed_for_memory() -> int | None:
    """Return how many processes the kernel has killed for memory; None where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", _COUNTS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _process(number: int, codes: Sequence[int]) -> str:
    return f"process {number + 1} of {len(codes)}" if len(codes) > 1 else "its process"


def _record(working: Working, number: int) -> dict[str, Any] | None:
    path = worker.error_path(working, number)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _free_port() -> int:
    """Return a port on which nobody listens, for the processes to meet at."""
    drawn = random.SystemRandom()
    for _ in range(_TRIES):
        port = drawn.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise InfrastructureError("launch", "no port is free for the processes to meet at")
