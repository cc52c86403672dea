"""The processes that share a stage, forked from the runner, which has the libraries already.

`run_forked(..., first=fork_ranks)`: two processes then take seconds less to start than by the
command, whose own way to start them tests/stages/test_launch.py tries.
"""

import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from pipeline.run import ranks, worker


def fork_ranks() -> None:
    """Have this process fork the processes of a stage from now on."""
    ranks.subprocess = SimpleNamespace(Popen=ForkedRank)  # type: ignore[attr-defined]


def split_over(
    stage: str, *changes: str, processes: int = 2, more: str = ", fsdp: {}"
) -> list[str]:
    """Return the overrides by which processes split a stage's model. changes: of the stage."""
    launch = f"launch={{with: accelerate, processes: {processes}{more}}}"
    return [f"stages.{stage}.{change}" for change in (launch, *changes)]


class ForkedRank:
    """A worker in a child, as subprocess.Popen would start it."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: Any, **_: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _work_and_leave(command[-1], env, stdout)

    def poll(self) -> int | None:
        """Return the exit code once it has ended."""
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait until it has ended."""
        return self._look(0)

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


def _work_and_leave(folder: str, env: Mapping[str, str], output: Any) -> None:
    code = 1
    try:
        os.setsid()
        if output is not None:
            for number in (1, 2):
                os.dup2(output.fileno(), number)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["worker", folder]
        code = worker.main()
    except BaseException as error:  # noqa: BLE001  a child must not run the parent's tests
        sys.excepthook(type(error), error, error.__traceback__)
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)
