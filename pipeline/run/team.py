"""Who brings stages about: this thread, one after another, or several processes, side by side.

`begin` has a stage brought about, `wait` says which has ended. Which is next is schedule.py's
subject.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pipeline.files.disk_errors import one_line
from pipeline.run.interrupt import StopRequest
from pipeline.run.launch import Place
from pipeline.run.progress import Board
from pipeline.run.slots import Slots, on_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from pipeline.run.outcomes import Outcome
    from pipeline.run.slots import Devices, Slot
    from pipeline.run.stage_run import StageRun
    from pipeline.store.store import Artifact

Key = tuple[int, str]  # which of the recipes, and the stage
_POLL_S = 0.1
_GRACE_S = 5.0  # after a second signal: to end by themselves, then to note that they were killed


@dataclass(frozen=True)
class Ended:
    """A stage that has ended: with its outcome, or with what was raised."""

    key: Key
    outcome: Outcome | None
    error: BaseException | None = None


@dataclass(frozen=True)
class Seat:
    """What a stage is called where its progress is shown, and the GPUs that it is to see.

    devices: None for all that this process sees.
    """

    name: str
    devices: Devices = None


class Team(Protocol):
    """Brings stages about."""

    def at_work(self, stop: StopRequest) -> AbstractContextManager[object]:
        """Be told when the user asks to stop, and show what goes on, for the duration."""
        ...

    def begin(
        self, key: Key, stage_run: StageRun, made: Mapping[str, Artifact | None], seat: Seat
    ) -> None:
        """Have a stage brought about."""
        ...

    def wait(self) -> Ended:
        """Wait for one of those that have begun."""
        ...

    def expect(self, num_left: int, devices: Devices = None) -> None:
        """Make ready for more: so many stages have not ended; the next will see these GPUs."""
        ...

    def say(self, line: str) -> None:
        """Show a line for the user."""
        ...

    def close(self) -> None:
        """End all that still runs."""
        ...


class OneByOne:
    """Brings stages about in this thread: each has ended once `begin` returns, or it raises."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._ended: list[Ended] = []

    def at_work(self, stop: StopRequest) -> AbstractContextManager[object]:
        """Nothing but the stage itself need be told."""
        return nullcontext()

    def begin(
        self, key: Key, stage_run: StageRun, made: Mapping[str, Artifact | None], seat: Seat
    ) -> None:
        """Bring a stage about."""
        self._ended.append(Ended(key, stage_run.bring_about(made)))

    def wait(self) -> Ended:
        """Return the one that has ended."""
        return self._ended.pop()

    def expect(self, num_left: int, devices: Devices = None) -> None:
        """Nothing can be made ready."""

    def say(self, line: str) -> None:
        """Show a line."""
        self._say(line)

    def close(self) -> None:
        """Nothing runs."""


class SideBySide:
    """Brings stages about in the processes of slots; a thread here waits for each."""

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._board = Board()
        self._slots = Slots(count, self.say)
        self._busy: dict[Key, tuple[threading.Thread, Slot | None]] = {}
        self._told: dict[Key, StopRequest] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._num_signals = 0
        self._is_here = False
        self._due_s: float | None = None

    def say(self, line: str) -> None:
        """Show a line above the bars."""
        self._board.say(line, self._say)

    def at_work(self, stop: StopRequest) -> AbstractContextManager[object]:
        """Pass signals on, and show the bars."""
        stop.forward_to = self._forward
        return self._board

    def _forward(self, number: int) -> None:
        self._num_signals += 1
        self._slots.signal(number)
        for stop in list(self._told.values()):
            stop.pass_on(number)
        if self._is_here and self._num_signals > 1:
            raise KeyboardInterrupt

    def expect(self, num_left: int, devices: Devices = None) -> None:
        """Start one more process ahead of need."""
        self._slots.start_ahead(num_left, devices)

    def begin(
        self, key: Key, stage_run: StageRun, made: Mapping[str, Artifact | None], seat: Seat
    ) -> None:
        """Bring a stage about in a slot; without one, if it is there or starts processes itself.

        Those of several run here while nothing else does; on GPUs of their own, beside others.
        """
        if stage_run.is_there or (stage_run.has_own_processes and not seat.devices):
            self._begin_here(key, stage_run, made)
            return
        slot = None
        if stage_run.has_own_processes:
            self._told[key] = stop = StopRequest(is_silent=True)
            stage_run = replace(stage_run, stop=stop)
        else:
            slot = self._slots.take(seat.devices)
        shown = f"{seat.name}{on_gpus(seat.devices)}"
        say = lambda line: self.say(f"{seat.name:<14} {line}")  # noqa: E731
        place = Place(slot, self._board, shown, seat.devices, say)
        thread = threading.Thread(
            target=self._bring_about, args=(key, stage_run, dict(made), place), daemon=True
        )
        self._busy[key] = thread, slot
        thread.start()

    def _begin_here(
        self, key: Key, stage_run: StageRun, made: Mapping[str, Artifact | None]
    ) -> None:
        self._is_here = True
        try:
            with nullcontext() if stage_run.is_there else self._board.hidden():
                self._ended.put(self._try(key, stage_run, made, None))
        finally:
            self._is_here = False

    def _bring_about(
        self,
        key: Key,
        stage_run: StageRun,
        made: Mapping[str, Artifact | None],
        place: Place,
    ) -> None:
        self._ended.put(self._try(key, stage_run, made, place))

    def _try(
        self,
        key: Key,
        stage_run: StageRun,
        made: Mapping[str, Artifact | None],
        place: Place | None,
    ) -> Ended:
        try:
            with one_line("posttrain run"):
                return Ended(key, stage_run.bring_about(made, place))
        except Exception as error:  # noqa: BLE001  it is raised by the main thread
            return Ended(key, None, error)

    def wait(self) -> Ended:
        """Wait for one; after a second signal not for long."""
        while True:
            try:
                ended = self._ended.get(timeout=_POLL_S)
            except queue.Empty:
                self._hurry()
                continue
            if ended.key in self._busy:
                thread, slot = self._busy.pop(ended.key)
                thread.join()
                self._told.pop(ended.key, None)
                if slot is not None:
                    self._slots.give_back(slot)
            return ended

    def _hurry(self) -> None:
        """After a second signal, kill those that do not end, and go without those that hash."""
        if self._num_signals < 2:
            return
        now_s = time.monotonic()
        if self._due_s is None:
            self._due_s = now_s + _GRACE_S
        elif now_s > self._due_s + _GRACE_S:
            raise KeyboardInterrupt
        elif now_s > self._due_s:
            self._slots.kill()

    def close(self) -> None:
        """Kill what still runs, and let those who wait for it note that."""
        for stop in list(self._told.values()):
            for _ in range(2):  # a second one does not wait
                stop.pass_on(signal.SIGTERM)
        self._slots.close()
        for thread, _ in self._busy.values():
            thread.join(2 * _GRACE_S)
