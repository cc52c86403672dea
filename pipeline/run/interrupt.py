"""Ctrl-C and SIGTERM as a request: finish the step, checkpoint, leave with exit code 130.

A second signal does not wait. Correctness never depends on any of this: a SIGKILL is survived as
well.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the user asked to stop. `forward_to` lets a launcher pass the signal on.

    is_silent: for a process whose launcher has told the user already.
    """

    def __init__(self, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent
        self.is_requested = False
        self.forward_to: Callable[[int], None] | None = None
        self._passing = threading.Lock()

    def __call__(self) -> bool:
        """Say whether the user asked to stop."""
        return self.is_requested

    def pass_on(self, number: int) -> None:
        """Ask to stop whoever waits in another thread, which hears no signal itself."""
        with self._passing:
            self.is_requested = True
            forward_to = self.forward_to
        if forward_to is not None:
            forward_to(number)

    def hear(self, forward_to: Callable[[int], None]) -> None:
        """Have all be passed on from now on, what was passed on before included."""
        with self._passing:
            self.forward_to = forward_to
            is_late = self.is_requested
        if is_late:
            forward_to(signal.SIGTERM)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.forward_to is not None:
            self.forward_to(number)
        if self.is_requested and self.forward_to is None:
            raise KeyboardInterrupt
        if not self.is_requested and not self._is_silent:
            _say(b"\nstopping after this step; once more to stop at once\n")
        self.is_requested = True


def _say(line: bytes) -> None:
    """Write to the terminal, past sys.stderr: a signal may have come while that was written to."""
    with contextlib.suppress(OSError):  # the terminal may be closed
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line)


@contextmanager
def stop_requests(*, is_silent: bool = False) -> Generator[StopRequest]:
    """Turn SIGINT and SIGTERM into a StopRequest for the duration; in the main thread only.

    Signals that whoever started this process held back until now (`held_back`) come through.
    """
    request = StopRequest(is_silent=is_silent)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handler = request._receive
    before = {number: signal.signal(number, handler) for number in _HANDLED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    try:
        yield request
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def hold_back_signals() -> Generator[None]:
    """Let no stop request in for the duration; processes started meanwhile begin like that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
