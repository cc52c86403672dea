"""Runs one stage after another as it is asked to: `python -m pipeline.run.slot_worker SOCKET`.

Importing the libraries takes seconds, which every stage would pay in a process of its own. Each
stage begins as in a fresh one: seeded, with its own number of threads (worker.py). One that fails
or is stopped is the last.

From the runner comes the name of a working folder, with the descriptor of the stage's lock, which
is held here too until the stage is over. To it go lines of JSON: ["progress", label, done, total,
note], ["say", line], and at the end of a stage ["over", exit code].
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.environment import ignore_talk_between_libraries, set_environment
from pipeline.errors import InterruptedRunError
from pipeline.run.interrupt import stop_requests
from pipeline.run.worker import attempt, end_with_parent
from pipeline.store.store import Working

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pipeline.run.progress import Display
    from pipeline.run.request import Request

_EVERY_S = 0.1  # progress of one label is told no oftener
_LONGEST_PATH = 1 << 16


class _Told:
    """A display that tells the runner."""

    def __init__(self, runner: socket.socket) -> None:
        self._runner = runner
        self._label = ""
        self._told_s = 0.0

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        now_s = time.monotonic()
        if label == self._label and done < total and now_s - self._told_s < _EVERY_S:
            return
        self._label, self._told_s = label, now_s
        self.tell("progress", label, done, total, note)

    def say(self, line: str) -> None:
        self.tell("say", line)

    def tell(self, *words: Any) -> None:
        self._runner.sendall(json.dumps(words).encode() + b"\n")


def main() -> int:
    """Run what is asked for until the runner closes the socket; returns the exit code."""
    end_with_parent()
    runner = socket.socket(fileno=int(sys.argv[1]))
    told = _Told(runner)

    def shown(_: Request) -> AbstractContextManager[Display]:
        return nullcontext(told)

    try:
        with stop_requests(is_silent=True) as should_stop:
            _import_ahead()
            while (asked := _receive(runner)) is not None:
                working, lock = asked
                code = attempt(working, should_stop, shown)
                os.close(lock)
                told.tell("over", code)
                if code:
                    return code
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code
    return 0


def _import_ahead() -> None:
    """Import what most stages need, while there is nothing to do yet."""
    set_environment()
    ignore_talk_between_libraries()
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import Trainer  # noqa: F401


def _receive(runner: socket.socket) -> tuple[Working, int] | None:
    """Wait for a working folder and the descriptor of its lock; None when no more come."""
    message, locks = b"", []
    while not message.endswith(b"\n"):
        part, descriptors, _, _ = socket.recv_fds(runner, _LONGEST_PATH, 1)
        if not part:
            return None
        message += part
        locks += descriptors
    return Working(Path(message.decode().removesuffix("\n"))), locks[0]


if __name__ == "__main__":
    sys.exit(main())
