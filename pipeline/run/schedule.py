"""Which stage begins next, of stages that need others: a pure function of what has ended so far.

Not how they run (team.py). With one slot they come in the recipe's order. With more, the stage with
the longest way to the end comes first (list scheduling by critical path, Graham 1969), so that what
everything else waits for is never itself kept waiting. Devices (GPUs) are nobody's but a stage's
while it runs. One that waits for some has those that come free kept for it, so that smaller ones do
not pass it for ever; what takes none goes on beside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True)
class Graph(Generic[Key]):
    """Stages and what each needs. order: all of them; what a stage needs comes before it.

    needs: of each, directly. seconds: how long each may take; None where it is not known. alone:
    those beside which nothing else runs. free: those that take no time and no slot. devices: how
    many each takes; none where it is not named.
    """

    order: Sequence[Key]
    needs: Mapping[Key, Collection[Key]]
    seconds: Mapping[Key, float | None]
    alone: Collection[Key] = ()
    free: Collection[Key] = ()
    devices: Mapping[Key, int] = field(default_factory=dict["Key", int])


@dataclass
class Schedule(Generic[Key]):
    """What has begun and ended; `begin_next` says what may begin.

    devices: the names of all there are. taken: of them, by the stage that runs on them.
    """

    graph: Graph[Key]
    slots: int
    devices: Sequence[str] = ()
    running: list[Key] = field(default_factory=list)
    taken: dict[Key, tuple[str, ...]] = field(default_factory=dict["Key", "tuple[str, ...]"])
    _waiting: list[Key] = field(init=False)
    _ended: set[Key] = field(default_factory=set)
    _left_s: dict[Key, float] = field(init=False)

    def __post_init__(self) -> None:
        self._waiting = list(self.graph.order)
        self._left_s = longest_ways(self.graph)

    @property
    def num_left(self) -> int:
        """How many of those that take a slot have not ended: begun or not."""
        return sum(key not in self.graph.free for key in (*self.running, *self._waiting))

    @property
    def _idle_devices(self) -> list[str]:
        taken = {device for devices in self.taken.values() for device in devices}
        return [device for device in self.devices if device not in taken]

    def _num_devices(self, key: Key) -> int:
        """How many a stage takes: never more than there are, or it would wait for ever."""
        return min(self.graph.devices.get(key, 0), len(self.devices))

    def _ready(self) -> list[Key]:
        return [key for key in self._waiting if self._ended.issuperset(self.graph.needs[key])]

    def begin_next(self) -> Key | None:
        """Begin the stage that is to begin now, and return it; None while there is none."""
        chosen = self._choose(self._ready())
        if chosen is not None:
            self.begin(chosen)
        return chosen

    def begin(self, key: Key) -> None:
        """Note that a stage has begun, on the first devices that are idle."""
        self.taken[key] = tuple(self._idle_devices[: self._num_devices(key)])
        self._waiting.remove(key)
        self.running.append(key)

    def kept_waiting(self) -> list[Key]:
        """Return those that might have begun, were there a device for them."""
        busy = self._busy
        if len(busy) >= max(self.slots, 2) or any(key in self.graph.alone for key in busy):
            return []
        idle = len(self._idle_devices)
        return [key for key in self._ready() if self._num_devices(key) > idle]

    def likely_devices(self) -> tuple[str, ...] | None:
        """Return those that the next stage will run on; None where they are not idle.

        The next is the one with the longest way, of those that wait for nothing but what runs.
        """
        known = self._ended.union(self.running)
        coming = [
            key
            for key in self._waiting
            if key not in self.graph.free and known.issuperset(self.graph.needs[key])
        ]
        wanted = self._num_devices(max(coming, key=lambda key: self._left_s[key])) if coming else 0
        idle = self._idle_devices
        return tuple(idle[:wanted]) if wanted <= len(idle) else None

    @property
    def _busy(self) -> list[Key]:
        return [key for key in self.running if key not in self.graph.free]

    def _choose(self, ready: Sequence[Key]) -> Key | None:
        if not ready or self.slots == 1:
            return ready[0] if ready and not self.running else None
        for key in ready:
            if key in self.graph.free:
                return key
        busy = self._busy
        if len(busy) >= self.slots or any(key in self.graph.alone for key in busy):
            return None
        idle = len(self._idle_devices)
        is_kept = False  # what is idle, for one that needs more
        # Of equals the recipe's first.
        for key in sorted(ready, key=lambda key: -self._left_s[key]):
            wanted = self._num_devices(key)
            if key in self.graph.alone and busy:
                if not is_kept:
                    return None
            elif wanted == 0 or (wanted <= idle and not is_kept):
                return key
            else:
                is_kept = True
        return None

    def end(self, key: Key) -> None:
        """Note that a stage has its result."""
        self._leave(key)
        self._ended.add(key)

    def _leave(self, key: Key) -> None:
        self.running.remove(key)
        self.taken.pop(key)

    def fail(self, key: Key) -> list[Key]:
        """Note that a stage has none; return those that will not run, since they need it."""
        self._leave(key)
        lost = {key}
        for later in self._waiting:  # in order: what a stage needs was looked at before it
            if lost.intersection(self.graph.needs[later]):
                lost.add(later)
        gone = [later for later in self._waiting if later in lost]
        self._waiting = [later for later in self._waiting if later not in lost]
        return gone


def seconds_left(graph: Graph[Key], slots: int, running: Collection[Key]) -> float | None:
    """Return when all will have ended, as far as it can be told from their times; else None.

    graph: of what has not ended; its seconds are those left of the ones that are running.
    """
    if any(graph.seconds[key] is None for key in graph.order if key not in graph.free):
        return None
    takes_s = _filled_in(graph)
    schedule = Schedule(graph, slots)
    for key in running:
        schedule.begin(key)
    ends_s = {key: takes_s[key] for key in running}
    now_s = 0.0
    while True:
        while (key := schedule.begin_next()) is not None:
            ends_s[key] = now_s + takes_s[key]
        if not schedule.running:
            return now_s
        first = min(schedule.running, key=lambda key: ends_s[key])
        now_s = max(now_s, ends_s[first])
        schedule.end(first)


def longest_ways(graph: Graph[Key]) -> dict[Key, float]:
    """Return for each stage the seconds of the longest way from its beginning to the end.

    One that is not known counts as the mean of those that are; if none is, each counts the same.
    """
    takes = _filled_in(graph)
    after: dict[Key, float] = dict.fromkeys(graph.order, 0.0)
    ways: dict[Key, float] = {}
    for key in reversed(graph.order):
        ways[key] = takes[key] + after[key]
        for needed in graph.needs[key]:
            after[needed] = max(after[needed], ways[key])
    return ways


def _filled_in(graph: Graph[Key]) -> dict[Key, float]:
    """Return how long each stage takes, with the mean where that is not known."""
    takes = {key: 0.0 if key in graph.free else graph.seconds[key] for key in graph.order}
    known = [seconds for seconds in takes.values() if seconds]
    usual = fmean(known) if known else 1.0
    return {key: usual if seconds is None else seconds for key, seconds in takes.items()}
