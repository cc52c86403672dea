"""Limits of time and memory for foreign code that runs in our process: a chat template.

Not a sandbox: Jinja's decides what the code may touch. Time is limited by an alarm, which Python
heeds between two of its steps; memory by a limit on the address space, since one step such as
`'%1000000000d' % 1` may ask for gigabytes and cannot be interrupted.
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
_CLOCK_PER_CPU_SECOND = 10.0
_SHORTEST_WAIT_S = 0.01
_STATM = Path("/proc/self/statm")


class TooSlowError(Exception):
    """Raised inside code that runs too long."""


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise TooSlowError in the block once it has used this much processor time.

    Not clock time, which says little on a busy machine; that ends a template that only waits, after
    ten times as long. Works in the main thread alone, where signals arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    began_s, worked_s = time.monotonic(), time.process_time()

    def stop(*_: object) -> None:
        left_s = limit_s - (time.process_time() - worked_s)
        if left_s <= 0 or time.monotonic() - began_s >= _CLOCK_PER_CPU_SECOND * limit_s:
            raise TooSlowError
        # The clock ran ahead of the processor time: wait for the rest.
        signal.setitimer(signal.ITIMER_REAL, max(left_s, _SHORTEST_WAIT_S))

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
    """Raise MemoryError in the block if it asks for too much; on Linux only."""
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
