"""The processes of a run's slots: started ahead of need, asked for one stage after another, ended.

What they do is slot_worker.py's subject. They are started by the main thread only: the kernel kills
each of them when the thread that started it ends. Whoever waits for a stage may be another thread.
Which GPUs a process sees is fixed when it begins: a stage on others takes another process.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from pipeline.errors import InfrastructureError, InterruptedRunError
from pipeline.recipe.devices import VISIBLE
from pipeline.run import worker
from pipeline.run.interrupt import hold_back_signals
from pipeline.run.ranks import GO_ON, count_memory_kills, failure_of
from pipeline.run.worker_environment import Group, environments

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.run.progress import Display
    from pipeline.store.store import Working


_GRACE_S = 5.0  # for an idle process to end
_OUTPUT_S = 1.0  # for its last words: one that it has started may hold the pipe open
_SHORT = 12  # of a UUID: which kind it is, and its first eight digits
Devices = tuple[str, ...] | None


class Slot:
    """One process, and what it is asked for.

    devices: the GPUs that it sees; None for whatever there is. say: takes what it or a library
    prints.
    """

    def __init__(self, devices: Devices, say: Callable[[str], None]) -> None:
        self.devices = devices
        self.stage = ""
        self._has_ended_one = False
        self._say = say
        own, its = socket.socketpair()
        self._socket = own
        environment = environments(Group(1, 1, seeing(devices)))[0]
        command = [sys.executable, "-P", "-m", "pipeline.run.slot_worker", str(its.fileno())]
        try:
            with its, hold_back_signals():  # until it listens
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    pass_fds=(its.fileno(),),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            raise InfrastructureError("-j", f"no process can be started ({error})") from error
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked for another stage."""
        return self._process.poll() is None

    def run(
        self,
        name: str,
        working: Working,
        show: Display,
        *,
        lock: int,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Have a stage run, whose request lies in its working folder, and wait for it.

        lock: descriptor of the stage's lock, held by the process too. is_stopped: whether the user
        has asked to stop. Raises the stage's own PosttrainError, or InfrastructureError where the
        process died.
        """
        for path in working.path.glob(worker.ERRORS):
            path.unlink()
        if is_stopped():
            raise InterruptedRunError(name, "stopped on request", GO_ON)
        show("loading libraries", 0, 1)  # as the process says once it has begun: it may still load
        had_killed = count_memory_kills()
        self.stage = name
        try:
            code = self._ask(working, show, lock)
        except BaseException:  # of what shows it; nobody may find this slot idle while it works
            self._process.kill()
            raise
        self.stage = ""
        self._has_ended_one = True
        if code == 0:
            return
        code = self._process.wait() or 1
        self._reader.join(_OUTPUT_S)
        raise failure_of(
            *(name, working, [code], set()), was_stopped=is_stopped(), had_killed=had_killed
        )

    def _ask(self, working: Working, show: Display, lock: int) -> int | None:
        """Ask for a stage and show what comes back; returns its exit code, None without one."""
        try:
            socket.send_fds(self._socket, [f"{working.path.resolve()}\n".encode()], [lock])
        except OSError:
            return None  # it is gone; how it ended says why
        with self._socket.makefile(encoding="utf-8") as lines:
            while (line := _read_line(lines)) is not None:
                what, *words = json.loads(line)
                if what == "over":
                    return words[0]
                if what == "say":
                    show.say(*words)
                else:
                    show(*words)
        return None

    def _read_output(self) -> None:
        """Pass on what is printed there, line by line, until it ends."""
        output = self._process.stdout
        assert output is not None
        for line in output:
            text = line.decode(errors="replace").rstrip()
            if text:
                self._say(f"{self.stage:<14} {text}")

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it: where it is idle and has worked, by itself, so that it can clean up."""
        if self._has_ended_one and not self.stage:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._socket.shutdown(socket.SHUT_RDWR)
                self._process.wait(_GRACE_S)
        self._process.kill()
        self._process.wait()
        self._reader.join(_OUTPUT_S)
        self._socket.close()


def _read_line(lines: TextIO) -> str | None:
    """Return the next line; None when whoever writes them is gone, in the middle of one or not."""
    try:
        line = lines.readline()
    except OSError:
        return None
    return line if line.endswith("\n") else None


class Slots:
    """All slots of a run: no more than so many work at once."""

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        self._count, self._say = count, say
        self._idle: list[Slot] = []
        self._busy: list[Slot] = []

    def take(self, devices: Devices = None) -> Slot:
        """Return an idle slot that sees these GPUs, started if need be."""
        self._drop_ended()
        slot = self._find_idle(devices)
        if slot is None:
            slot = self._start(devices)
        else:
            self._idle.remove(slot)
        self._busy.append(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take a slot back, for the next stage if its process still lives."""
        self._busy.remove(slot)
        self._idle.append(slot)
        self._drop_ended()

    def start_ahead(self, num_left: int, devices: Devices = None) -> None:
        """Start one more process while others work, where there will be work for it."""
        self._drop_ended()
        is_room = len(self._busy) < min(self._count, num_left)
        if is_room and self._find_idle(devices) is None:
            self._idle.append(self._start(devices))

    def _find_idle(self, devices: Devices) -> Slot | None:
        return next((slot for slot in self._idle if slot.devices == devices), None)

    def _start(self, devices: Devices) -> Slot:
        """Start a process, in place of idle ones that hold memory on its GPUs or are too many."""
        for slot in list(self._idle):
            is_full = len(self._idle) + len(self._busy) >= self._count
            if is_full or set(slot.devices or ()) & set(devices or ()):
                self._idle.remove(slot)
                slot.close()
        return Slot(devices, self._say)

    def signal(self, number: int) -> None:
        """Tell all of them to stop."""
        for slot in (*self._idle, *self._busy):
            slot.signal(number)

    def close(self) -> None:
        """End all of them, at once."""
        for slot in (*self._idle, *self._busy):
            slot.close()
        self._idle, self._busy = [], []

    def kill(self) -> None:
        """Kill all of them, and leave it to whoever waits for their stages to note it."""
        self.signal(signal.SIGKILL)

    def _drop_ended(self) -> None:
        for slot in [slot for slot in self._idle if not slot.is_alive]:
            self._idle.remove(slot)
            slot.close()


def seeing(devices: Devices) -> dict[str, str]:
    """Return what a process is told of the GPUs that it sees; nothing where it sees all."""
    return {} if devices is None else {VISIBLE: ",".join(devices)}


def on_gpus(devices: Devices) -> str:
    """Return ` on GPU 1`, for lines about a stage; nothing where it has none of its own."""
    if not devices:
        return ""
    names = ", ".join(name if name.isdigit() else name[:_SHORT] for name in devices)
    return f" on GPU{'s' * (len(devices) > 1)} {names}"
