"""The parent's side of boxes: zygote processes, each used by one thread at a time, and deadlines.

A box that does not get ready, or a zygote that does not answer, is a failure of the machine
(`InfrastructureError`); what happens in a box that is ready is the program's doing (`BoxError`).
"""

from __future__ import annotations

import atexit
import json
import math
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reward.boxes.channel import LENGTH, MAX_MESSAGE_BYTES, NONCE_BYTES, READY

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

_SOURCE_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from reward.boxes.zygote import main; main(sys.argv[1], sys.argv[2])"
)
# No site-packages, no bytecode files written; one hash seed: sets have the same order in each box.
_OPTIONS = ("-s", "-S", "-P", "-B")
_ENVIRONMENT = {
    **{"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # a zygote has one thread
}
_START_WITHIN_S, _READY_WITHIN_S, _END_WITHIN_S = 60.0, 30.0, 10.0
# More than this is not sent before an answer is read: both sides could wait for room forever.
_SENT_AHEAD_BYTES = 1 << 15


class SandboxUnavailable(OSError):
    """This machine cannot confine programs; the message is a sentence that says why."""


class InfrastructureError(OSError):
    """The machine failed, not the program: a box or its zygote did not come up, or was killed."""


class BoxError(Exception):
    """A box that was ready gave no answer: it took too long, ended, or wrote something else.

    number: 0 for the program's box, 1 for the one that asks it.
    """

    def __init__(self, kind: Literal["timeout", "died", "no reply"], number: int) -> None:
        super().__init__(f"{kind}, box {number}")
        self.kind: Literal["timeout", "died", "no reply"] = kind
        self.number = number


@dataclass(frozen=True)
class Limits:
    """What a box may use: seconds of processor time, bytes of address space."""

    cpu_s: int
    memory_bytes: int


@dataclass(frozen=True)
class Ending:
    """How a box ended: its wait status (os.waitstatus_to_exitcode) and its processor time."""

    status: int
    cpu_s: float


class Box:
    """The connection to a confined process."""

    def __init__(self, connection: socket.socket, number: int, clock_s: float) -> None:
        self._connection = connection
        self._number = number
        self._clock_s = clock_s
        self._deadline: float | None = None

    @property
    def deadline_s(self) -> float:
        """When its time is over, on the clock of `time.monotonic`; never before it is ready."""
        return math.inf if self._deadline is None else self._deadline

    def ask(self, message: bytes) -> bytes:
        """Send a message and return the answer. Raises BoxError."""
        return next(self.ask_all([message]))

    def ask_all(self, messages: Sequence[bytes]) -> Iterator[bytes]:
        """Send messages, yield their answers; within `clock_s` from when the box is locked in.

        Raises BoxError; SandboxUnavailable or InfrastructureError if the box does not get ready.
        """
        unsent = list(reversed(messages))
        while unsent:
            ahead = [unsent.pop()]
            while unsent and sum(map(len, ahead)) + len(unsent[-1]) < _SENT_AHEAD_BYTES:
                ahead.append(unsent.pop())
            nonces = [secrets.token_bytes(NONCE_BYTES) for _ in ahead]
            pairs = zip(nonces, ahead, strict=True)
            try:
                self._send(b"".join(LENGTH.pack(len(n) + len(m)) + n + m for n, m in pairs))
            finally:  # one that cannot be sent to may have said why
                if self._deadline is None:
                    self._wait_until_ready()
            for nonce in nonces:
                answer = self._receive()
                if not answer.startswith(nonce):
                    raise BoxError("no reply", self._number)
                yield answer[NONCE_BYTES:]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _wait_until_ready(self) -> None:
        self._deadline = time.monotonic() + _READY_WITHIN_S
        try:
            hello = self._receive()
        except BoxError as error:
            raise InfrastructureError(f"a box did not start: {error.kind}") from error
        if hello != READY:
            raise SandboxUnavailable(hello.decode())
        self._deadline = time.monotonic() + self._clock_s

    def _receive(self) -> bytes:
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            raise BoxError("no reply", self._number)
        return self._read(length)

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._set_timeout()
            try:
                part = self._connection.recv(size - len(content))
            except TimeoutError as error:
                raise BoxError("timeout", self._number) from error
            except ConnectionError as error:
                raise BoxError("died", self._number) from error
            if not part:
                raise BoxError("died", self._number)
            content += part
        return bytes(content)

    def _send(self, content: bytes) -> None:
        self._set_timeout()
        try:
            self._connection.sendall(content)
        except TimeoutError as error:
            raise BoxError("timeout", self._number) from error
        except ConnectionError as error:
            raise BoxError("died", self._number) from error

    def _set_timeout(self) -> None:
        rest = _READY_WITHIN_S if self._deadline is None else self._deadline - time.monotonic()
        if rest <= 0:
            raise BoxError("timeout", self._number)
        self._connection.settimeout(rest)


class Zygote:
    """A process that forks boxes. One thread at a time may use it.

    setup: what it has ready for its boxes, as reward/boxes/zygote.py reads it.
    """

    def __init__(self, setup: str = "") -> None:
        if sys.platform != "linux":
            raise SandboxUnavailable(
                f"programs are confined by Landlock and seccomp, which {sys.platform} does not have"
            )
        self._boxes: list[Box] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    (sys.executable, *_OPTIONS, "-c", _START, _SOURCE_ROOT, setup),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise InfrastructureError(f"{sys.executable} cannot be run: {error}") from error
        if self._message(_START_WITHIN_S) != READY:
            self.close()
            raise InfrastructureError("the process that forks boxes did not start")

    def open(self, limits: Limits, clock_s: float) -> Box:
        """Fork a box. clock_s: how long it may take to answer, all answers together."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._order(limits, [theirs.fileno()])
        self._boxes.append(Box(ours, 0, clock_s))
        return self._boxes[-1]

    def open_two(self, limits: Limits, clock_s: float) -> Box:
        """Fork a box and one that can ask it; return the second. The parent has no first."""
        ours, theirs = socket.socketpair()
        asked, asking = socket.socketpair()
        with theirs, asked, asking:
            self._order(limits, [asked.fileno()])
            self._order(limits, [theirs.fileno(), asking.fileno()])
        self._boxes.append(Box(ours, 1, clock_s))
        return self._boxes[-1]

    def end(self) -> list[Ending]:
        """Kill all open boxes and say how they ended, in the order in which they were opened."""
        self._dismiss(b"end")
        answer = self._message(_END_WITHIN_S)
        if not answer:
            raise InfrastructureError("the process that forks boxes ended or hangs")
        return [Ending(**ending) for ending in json.loads(answer)]

    def drop(self) -> None:
        """Kill all open boxes, without waiting until they have ended."""
        self._dismiss(b"drop")

    def close(self) -> None:
        """End the process, and with it its boxes."""
        self._forget()
        self._process.kill()
        self._process.wait()

    def disown(self) -> None:
        """Let go of a zygote that belongs to the process this one was forked from."""
        self._forget()
        self._process.returncode = 0  # it is no child of this process: nothing to wait for

    def _order(self, limits: Limits, descriptors: list[int]) -> None:
        self._control.settimeout(_READY_WITHIN_S)
        try:
            socket.send_fds(self._control, [json.dumps(asdict(limits)).encode()], descriptors)
        except OSError as error:
            raise InfrastructureError(f"the process that forks boxes is gone: {error}") from error

    def _dismiss(self, how: bytes) -> None:
        for box in self._boxes:
            box.close()
        self._boxes.clear()
        with suppress(OSError):  # one that is gone has no boxes, and is noticed when asked for more
            self._control.send(how)

    def _forget(self) -> None:
        for box in self._boxes:
            box.close()
        self._control.close()

    def _message(self, within_s: float) -> bytes:
        self._control.settimeout(within_s)
        try:
            return self._control.recv(1 << 16)
        except OSError:
            return b""


class _Pool:
    """As many zygotes of one setup as threads use at once, at most one for each processor."""

    def __init__(self, setup: str) -> None:
        self._setup = setup
        self._all: list[Zygote] = []
        self.renew()

    def renew(self) -> None:
        """Begin without zygotes: in a new process those of its parent must not be touched."""
        for zygote in self._all:
            zygote.disown()
        self._all = []
        self._idle: list[Zygote] = []
        self._lock = threading.Lock()
        # More at once would only take the processor from one another, and time out.
        self._turns = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))

    @contextmanager
    def leased(self, *, new: bool) -> Generator[Zygote]:
        """Lend a zygote; one whose use ends with an exception is ended.

        new: not one that was used before, which may have been killed since.
        """
        with self._turns:
            with self._lock:
                zygote = self._idle.pop() if self._idle and not new else None
            if zygote is None:
                zygote = Zygote(self._setup)
                with self._lock:
                    self._all.append(zygote)
            is_fine = False
            try:
                yield zygote
                is_fine = True
            finally:
                with self._lock:
                    if is_fine:
                        self._idle.append(zygote)
                    else:
                        self._all.remove(zygote)
                if not is_fine:
                    zygote.close()

    def close(self) -> None:
        """End all zygotes."""
        for zygote in self._all:
            zygote.close()


_POOL_BY_SETUP: dict[str, _Pool] = {}


def leased(*, new: bool, setup: str = "") -> AbstractContextManager[Zygote]:
    """Lend a zygote of this setup; see `_Pool.leased`."""
    return _POOL_BY_SETUP.setdefault(setup, _Pool(setup)).leased(new=new)


def _close() -> None:
    for pool in _POOL_BY_SETUP.values():
        pool.close()


def _renew() -> None:
    for pool in _POOL_BY_SETUP.values():
        pool.renew()


atexit.register(_close)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_renew)
