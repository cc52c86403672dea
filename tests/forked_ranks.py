"""The processes of a stage, or of stages side by side, forked from the runner.

It has the libraries already: `run_forked(..., first=fork_ranks)` takes seconds less for each of two
processes than the command, whose own way to start them tests/stages/test_launch.py tries;
`first=fork_slots` likewise, for those that tests/stages/test_side_by_side.py tries.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from pipeline.run import ranks, slot_worker, slots, worker


def fork_ranks() -> None:
    """Have this process fork the processes of a stage from now on."""
    ranks.subprocess = SimpleNamespace(Popen=ForkedRank)  # type: ignore[attr-defined]


def fork_slots() -> None:
    """Have this process fork the processes of its slots from now on."""
    names = ("DEVNULL", "PIPE", "STDOUT", "TimeoutExpired")
    known = {name: getattr(subprocess, name) for name in names}
    slots.subprocess = SimpleNamespace(Popen=ForkedSlot, **known)  # type: ignore[attr-defined]


def split_over(
    stage: str, *changes: str, processes: int = 2, more: str = ", fsdp: {}"
) -> list[str]:
    """Return the overrides by which processes split a stage's model. changes: of the stage."""
    launch = f"launch={{with: accelerate, processes: {processes}{more}}}"
    return [f"stages.{stage}.{change}" for change in (launch, *changes)]


class _Forked:
    """A child, as subprocess.Popen has one."""

    def __init__(self, do: Callable[[], int], arguments: list[str], env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _do_and_leave(do, arguments, env)

    def poll(self) -> int | None:
        """Return the exit code once it has ended."""
        return self._look(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it has ended."""
        if timeout is None:
            return self._look(0)
        until_s = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until_s:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, how: int) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, how)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class ForkedRank(_Forked):
    """A worker in a child."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: Any, **_: Any
    ) -> None:
        def work() -> int:
            if stdout is not None:
                _write_to(stdout.fileno())
            return worker.main()

        super().__init__(work, ["worker", command[-1]], env)


class ForkedSlot(_Forked):
    """A slot's process in a child; it keeps nothing open but its end of the socket."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **_: Any) -> None:
        reading, writing = os.pipe()
        kept = int(command[-1])

        def work() -> int:
            _write_to(writing)
            os.closerange(3, kept)
            os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
            return slot_worker.main()

        super().__init__(work, ["slot_worker", command[-1]], env)
        os.close(writing)
        self.stdout = os.fdopen(reading, "rb")


def _write_to(descriptor: int) -> None:
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)


def _do_and_leave(do: Callable[[], int], arguments: list[str], env: Mapping[str, str]) -> None:
    code = 1
    try:
        os.setsid()
        os.environ.clear()
        os.environ.update(env)
        sys.argv = arguments
        code = do()
    except BaseException as error:  # noqa: BLE001  a child must not run the parent's tests
        sys.excepthook(type(error), error, error.__traceback__)
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)
