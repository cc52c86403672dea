"""Starts the processes of a stage, waits for all of them, and says why they failed if they did.

One process, or several that share the work (ranks). The kernel kills each of them when the runner
dies, however it dies, and each holds the stage's lock: while one of them lives, nobody else writes.
When one fails the others are ended too, since they would wait for it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline import errors
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError
from pipeline.run import worker
from pipeline.run.interrupt import hold_back_signals
from pipeline.run.worker_environment import Group, environments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.run.interrupt import StopRequest
    from pipeline.store.store import Working

_POLL_S = 0.05
# How long the others have to end by themselves and to say why: after a failure, after a stop.
_GRACE_S = 5.0
_GRACE_TO_STOP_S = 120.0
_OUTPUT_S = 1.0  # for the first one's last words
_COUNTS = Path("/proc/vmstat")
GO_ON = "run again to go on from the newest checkpoint"


def run_group(
    working: Working,
    group: Group,
    *,
    name: str,
    stop: StopRequest,
    lock: int,
    say: Callable[[str], None] | None = None,
) -> None:
    """Run the worker in all processes of the group and wait for them.

    say: takes each line that the first of them shows; None where it shows them itself. Raises the
    stage's own PosttrainError, or InfrastructureError where a process died.
    """
    for path in working.path.glob(worker.ERRORS):
        path.unlink()
    ranks: list[subprocess.Popen[bytes]] = []
    num_signals = 0
    had_killed = count_memory_kills()
    told_before = stop.forward_to

    def forward(number: int) -> None:
        nonlocal num_signals
        num_signals += 1
        for rank in ranks:
            rank.send_signal(number)

    killed: set[int] = set()
    try:
        with hold_back_signals():  # until they can be told; each of them until it listens
            if stop.is_requested:
                raise InterruptedRunError(name, "stopped on request", GO_ON)
            reader = _start(ranks, working, group, lock, say)
            stop.hear(forward)
        killed = _wait(ranks, lambda: num_signals > 1)
    finally:
        stop.forward_to = told_before
        _kill(ranks)
    if reader is not None:
        reader.join(_OUTPUT_S)
    codes = [rank.returncode for rank in ranks]
    if any(codes):
        was_stopped = num_signals > 0
        raise failure_of(
            name, working, codes, killed, was_stopped=was_stopped, had_killed=had_killed
        )


def _start(
    ranks: list[subprocess.Popen[bytes]],
    working: Working,
    group: Group,
    lock: int,
    say: Callable[[str], None] | None,
) -> threading.Thread | None:
    """Start all processes; the first one shows its progress here, the others write to a file.

    Where `say` takes its lines, returns the thread that passes them on. `-P` keeps the current
    folder off sys.path.
    """
    reader = None
    command = [sys.executable, "-P", "-m", "pipeline.run.worker", str(working.path)]
    try:
        for number, environment in enumerate(environments(group)):
            with (working.path / f"rank-{number}.txt").open("wb") as output:
                shown: IO[bytes] | None = output if number else None
                if say is not None and number == 0:
                    shown, reader = passed_on(say)
                with shown or nullcontext():
                    rank = subprocess.Popen(
                        command,
                        env=environment,
                        pass_fds=(lock,),
                        start_new_session=True,
                        stdout=shown,
                        stderr=shown,
                    )
            ranks.append(rank)
    except OSError as error:
        message = f"process {len(ranks) + 1} of {group.count} cannot be started ({error})"
        raise InfrastructureError(working.path.name, message) from error
    return reader


def passed_on(say: Callable[[str], None]) -> tuple[IO[bytes], threading.Thread]:
    """Return what a process may write to, and the thread that passes its lines on."""
    reading, writing = os.pipe()

    def read() -> None:
        with os.fdopen(reading, "rb") as output:
            for line in output:
                if text := line.decode(errors="replace").rstrip():
                    say(text)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return os.fdopen(writing, "wb"), thread


def _wait(ranks: Sequence[subprocess.Popen[bytes]], is_urgent: Any) -> set[int]:
    """Wait until all have ended; after one failed, kill those that do not. Return their numbers."""
    due_s: float | None = None
    while (codes := [rank.poll() for rank in ranks]).count(None):
        failed = [code for code in codes if code]
        now_s = time.monotonic()
        if due_s is None and (failed or is_urgent()):
            is_short = is_urgent() or failed[0] != InterruptedRunError.exit_code
            due_s = now_s + (_GRACE_S if is_short else _GRACE_TO_STOP_S)
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


def failure_of(
    name: str,
    working: Working,
    codes: Sequence[int],
    killed: set[int],
    *,
    was_stopped: bool,
    had_killed: int | None,
) -> PosttrainError:
    """Return why the group failed: what a rank says of itself before what others say of it.

    codes: what the processes left with. killed: the numbers of those that were ended here.
    had_killed: how many processes the kernel had killed for memory when they were started.
    """
    records = {number: _record(working, number) for number in range(len(codes))}
    raised = [record for record in records.values() if record is not None and "class" in record]
    stops = [record for record in raised if record["class"] == InterruptedRunError.__name__]
    for record in [*(record for record in raised if record not in stops), *stops]:
        kind: type[PosttrainError] = getattr(errors, record["class"])
        return kind(record["where"], record["message"], record["hint"])
    died = [(number, -code) for number, code in enumerate(codes) if code < 0]
    by_themselves = [(number, by) for number, by in died if number not in killed]
    codes_of_stop = (InterruptedRunError.exit_code, -signal.SIGINT, -signal.SIGTERM)
    if was_stopped and all(code in (0, *codes_of_stop, -signal.SIGKILL) for code in codes):
        return InterruptedRunError(name, "stopped on request", GO_ON)
    if by_themselves:
        number, by = by_themselves[0]
        reason = f"{_process(number, codes)} was killed by {signal.Signals(by).name}"
        if by == signal.SIGKILL:
            more, advice = _explain_kill(had_killed)
            return InfrastructureError(name, f"{reason}{more}", advice)
        return InfrastructureError(name, reason, "see above for why")
    crashes = [(record["time_s"], number) for number, record in records.items() if record]
    if crashes:
        number = min(crashes)[1]
        record = records[number] or {}
        sys.stderr.write(errors.printable(record["traceback"]))
        return InfrastructureError(
            name, f"{_process(number, codes)} failed: {record['summary']}", "see above for where"
        )
    number = next(number for number, code in enumerate(codes) if code)
    reason = f"{_process(number, codes)} left with code {codes[number]}"
    output = working.path / f"rank-{number}.txt"
    return InfrastructureError(
        name, reason, "see above for why" if number == 0 else f"see {output}"
    )


def _explain_kill(had_killed: int | None) -> tuple[str, str]:
    """Return what is known of why a process was killed, and what to do about it.

    had_killed: how many processes the kernel had killed for memory when this one was started.
    """
    lower = "lower `per_device_train_batch_size`"
    now = count_memory_kills()
    if had_killed is None or now is None:
        return "", f"if that was the kernel, memory ran out: {lower}"
    if now > had_killed:
        return ", as the kernel does when memory runs out", lower
    return ", though not by the kernel for want of memory", GO_ON


def count_memory_kills() -> int | None:
    """Return how many processes the kernel has killed for memory; None where it does not say."""
    try:
        count = re.search(r"^oom_kill (\d+)$", _COUNTS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(count[1]) if count else None


def _process(number: int, codes: Sequence[int]) -> str:
    return f"process {number + 1} of {len(codes)}" if len(codes) > 1 else "its process"


def _record(working: Working, number: int) -> dict[str, Any] | None:
    path = worker.error_path(working, number)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
