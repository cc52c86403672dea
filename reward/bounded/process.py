"""Asks a process of ours what may take any time and memory, and ends it where it takes too much.

Algebra with powers of powers, patterns that backtrack and schemas that refer to themselves cannot
be bounded from inside: a step of theirs may be one call that nothing interrupts, and alarms reach
the main thread only. So a process answers, one question after another, and is ended when it is
late. Not for programs of models: those run confined (reward/sandbox.py). What it runs is
reward/bounded/serve.py.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

Question = Literal["same_value", "readable", "found", "follows", "schema"]

LENGTH = struct.Struct("!I")
_SOURCE_ROOT = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.append(sys.argv[1]); from reward.bounded.serve import main; main()"
# One hash seed, so that sets of symbols have one order.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
# A busy machine gives a process less than all of a processor; importing sympy takes half a second.
_CLOCK_PER_CPU_SECOND, _GRACE_S, _START_WITHIN_S = 3.0, 2.0, 60.0


class NotGraded(Exception):
    """There is no answer within the limits; the message says why."""


class _Ended(Exception):
    """The process ended or hangs. is_late: of its own time, not by the machine."""

    def __init__(self, *, is_late: bool) -> None:
        super().__init__()
        self.is_late = is_late


def ask(question: Question, *texts: str, cpu_s: float = 5.0) -> Any:
    """Return the answer of the function in reward/bounded/serve.py, JSON data.

    cpu_s: processor seconds it may take. Raises NotGraded where it takes longer, or too much
    memory, or where the process ended twice.
    """
    request = json.dumps([question, list(texts), cpu_s]).encode("ascii")
    for _ in range(2):
        grader = _take()
        try:
            reply = grader.ask(request, cpu_s)
        except _Ended as ended:
            grader.end()
            if ended.is_late:
                raise NotGraded(f"it takes more than {cpu_s:g} s") from ended
            continue
        except BaseException:  # an interrupt: what it is doing is of no use to anyone
            grader.end()
            raise
        if "interrupted" in reply:  # which leaves it in any state
            grader.end()
            raise NotGraded(str(reply["interrupted"]))
        _give_back(grader)
        if "failed" in reply:
            raise NotGraded(str(reply["failed"]))
        return reply["answer"]
    raise NotGraded("the process that grades ended twice")


class _Grader:
    """The process, used by one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-s", "-P", "-B", "-c", _START, _SOURCE_ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            bufsize=0,
            start_new_session=True,  # an interrupt at the terminal is for its parent
        )
        self._is_ready = False

    def ask(self, request: bytes, cpu_s: float) -> dict[str, Any]:
        """Return the reply. Raises _Ended."""
        assert self._process.stdin is not None
        try:
            self._write(LENGTH.pack(len(request)) + request)
        except OSError as error:
            raise _Ended(is_late=False) from error
        within_s = cpu_s * _CLOCK_PER_CPU_SECOND + _GRACE_S
        deadline_s = time.monotonic() + within_s + (0.0 if self._is_ready else _START_WITHIN_S)
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline_s))
        reply = json.loads(self._read(length, deadline_s))
        self._is_ready = True
        return reply

    def end(self) -> None:
        """Kill it, and wait until it has ended."""
        self._process.kill()
        self._process.wait()
        self._close()

    def disown(self) -> None:
        """Let go of a process that belongs to the one that this one was forked from."""
        self._close()
        self._process.returncode = 0  # no child of this process: nothing to wait for

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _write(self, content: bytes) -> None:
        assert self._process.stdin is not None
        while content:
            content = content[self._process.stdin.write(content) or 0 :]

    def _read(self, size: int, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        content = bytearray()
        while len(content) < size:
            rest_s = deadline_s - time.monotonic()
            if rest_s <= 0 or not select.select([self._process.stdout], [], [], rest_s)[0]:
                raise _Ended(is_late=True)
            part = os.read(self._process.stdout.fileno(), size - len(content))
            if not part:
                raise _Ended(is_late=self._process.wait() == -signal.SIGXCPU)
            content += part
        return bytes(content)


_lock = threading.Lock()
_idle: list[_Grader] = []


def _take() -> _Grader:
    with _lock:
        if _idle:
            return _idle.pop()
    return _Grader()


def _give_back(grader: _Grader) -> None:
    with _lock:
        _idle.append(grader)


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _renew() -> None:
    """Begin without processes: in a forked one those of its parent must not be touched."""
    global _lock  # noqa: PLW0603  the one that was copied may be held by a thread that is not here
    _lock = threading.Lock()
    while _idle:
        _idle.pop().disown()


atexit.register(_end_all)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_renew)
