"""The two clocks everything here is timed by."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clocks:
    """Seconds on the wall, and of processor time: this process and its ended children, no waits."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Clocks:
        """Read both."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(of.ru_utime + of.ru_stime for of in used))

    def since(self, earlier: Clocks) -> Clocks:
        """Return what has passed."""
        return Clocks(self.wall_s - earlier.wall_s, self.cpu_s - earlier.cpu_s)
