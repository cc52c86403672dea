"""Somebody else's code run in our process with little time and memory: a chat template.

Not a sandbox: what the code may touch is Jinja's sandbox to say. Time is kept by an alarm, which
Python heeds between two of its steps; memory by a limit on the address space, since one step such
as `'%1000000000d' % 1` may ask for gigabytes and cannot be interrupted.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY_BYTES = 500_000_000  # beyond what the process has; a conversation takes a few thousand
_STATM = Path("/proc/self/statm")


class TooSlowError(Exception):
    """Raised inside code that runs too long."""


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise TooSlowError in the block after a while; only in the main thread, where signals go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooSlowError

    began_s = time.monotonic()
    earlier = signal.signal(signal.SIGALRM, stop)
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        if left_s:  # another timer was running
            left_s = max(1e-3, left_s - (time.monotonic() - began_s))
            signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)


@contextmanager
def memory_limit() -> Iterator[None]:
    """Raise MemoryError in the block for what asks for too much; on Linux, elsewhere nothing."""
    try:
        import resource

        pages = int(_STATM.read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + _MEMORY_BYTES
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
