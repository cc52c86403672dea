"""Ctrl-C and SIGTERM as a request: finish the step, checkpoint, leave with exit code 130.

A second signal does not wait. Correctness never depends on any of this: a SIGKILL is survived as
well.
"""

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether the user asked to stop. `forward_to` lets a launcher pass the signal on."""

    def __init__(self) -> None:
        self.is_requested = False
        self.forward_to: Callable[[int], None] | None = None

    def __call__(self) -> bool:
        """Say whether the user asked to stop."""
        return self.is_requested

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if self.forward_to is not None:
            self.forward_to(number)
        if self.is_requested and self.forward_to is None:
            raise KeyboardInterrupt
        if not self.is_requested:
            sys.stderr.write("\nstopping after this step; once more to stop at once\n")
        self.is_requested = True


@contextmanager
def stop_requests() -> Generator[StopRequest]:
    """Turn SIGINT and SIGTERM into a StopRequest for the duration; in the main thread only."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handler = request._received
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, old in before.items():
            signal.signal(number, old)
