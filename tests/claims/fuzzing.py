"""Fuzzing: feed a reader drawn inputs for some processor seconds, and count what came of them.

A reader may read an input or refuse it with an exception of its own. Anything else that it raises,
more time or memory than one input may take, and an input that is still read when the case's limit
comes, are failures, told with the input. What is drawn depends on the seed alone, how much of it
on the machine's speed.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis.strategies import SearchStrategy

from tests.claims.claim import Case, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_BATCH = 300  # inputs that are drawn by one run of hypothesis, which begins with the simplest
_ENOUGH = 5  # failures that end a case
_SHOWN = 400
_KIB = 1 << 10


@dataclass(frozen=True)
class Reader:
    """What is fed.

    inputs: draws one from a generator, or is a strategy of hypothesis. read: takes one, and a
    folder of the case; what it returns is a label to be counted under, None for "read". It raises
    AssertionError for a promise that is not kept. refusals: the exceptions it may raise otherwise.
    input_s, input_bytes: processor time and growth of the process that one input may take.
    """

    inputs: Callable[[Random], Any] | SearchStrategy[Any]
    read: Callable[[Any, Path], str | None]
    refusals: tuple[type[Exception], ...]
    input_s: float = 2.0
    input_bytes: int = 256 << 20


def fuzzing_cases(
    reader: Reader, random: Random, times: int, *, processor_s: float = 60.0, parts: int = 6
) -> list[Case]:
    """Return cases that feed the reader for so many processor seconds, all together."""
    return [
        Case(f"drawn {number}", _attempt(reader, random.getrandbits(64), processor_s / parts))
        for number in range(parts * times)
    ]


def feed(reader: Reader, seed: int, processor_s: float, folder: Path) -> Outcome:
    """Feed the reader for so many processor seconds of this process."""
    feeding = _Feeding(reader, processor_s, folder)
    random = Random(seed)
    before = signal.signal(signal.SIGVTALRM, _raise_too_slow)
    try:
        while not feeding.is_done:
            if isinstance(reader.inputs, SearchStrategy):
                _feed_batch(feeding, reader.inputs, random.getrandbits(64))
            else:
                feeding.take(reader.inputs(random))
    finally:
        signal.signal(signal.SIGVTALRM, before)
    return Outcome(feeding.tried, tuple(feeding.failures), dict(feeding.labels))


def mutate(random: Random, content: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """Return the content with one to four changes: bits, cuts, copies, moves, tokens put in."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, len(changed))
        end = min(len(changed), place + random.choice((1, 2, 8, 64, 1024)))
        match random.randint(0, 6 if tokens else 5):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << random.randrange(8)
            case 1:
                del changed[place:end]
            case 2:
                changed[place:place] = changed[place:end] * random.choice((1, 2, 50))
            case 3:
                changed[place:end] = random.randbytes(end - place)
            case 4:
                start = random.randint(0, len(changed))
                changed[place:place] = changed[start : start + end - place]
            case 5:
                del changed[place:]
            case _ if tokens:
                changed[place : random.choice((place, end))] = random.choice(tokens)
    return bytes(changed)


class _TooSlowError(BaseException):
    """One input took longer than it may. No Exception: a reader must not catch it."""


class _Feeding:
    """What has come of the inputs so far."""

    def __init__(self, reader: Reader, processor_s: float, folder: Path) -> None:
        self._reader = reader
        self._folder = folder
        self._processor_s = processor_s
        self._end_s = math.inf  # until the first input: hypothesis takes a while to get going
        self.tried = 0
        self.failures: list[str] = []
        self.labels: Counter[str] = Counter()

    @property
    def is_done(self) -> bool:
        return time.process_time() >= self._end_s or len(self.failures) >= _ENOUGH

    def take(self, given: object) -> None:
        """Have one input read, within its limits."""
        if self.is_done:  # hypothesis has drawn the rest of a batch
            return
        if not self.tried:
            self._end_s = time.process_time() + self._processor_s
        self.tried += 1
        grown_bytes = _peak_bytes()
        signal.setitimer(signal.ITIMER_VIRTUAL, self._reader.input_s)
        try:
            label = self._reader.read(given, self._folder) or "read"
        except self._reader.refusals:
            label = "refused"
        except _TooSlowError:
            self._failed(given, f"took longer than {self._reader.input_s} s")
            return
        except Exception as error:  # noqa: BLE001  what a reader raises is the outcome
            self._failed(given, f"{type(error).__name__}: {error}"[:_SHOWN])
            return
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.labels[label] += 1
        grown_bytes = _peak_bytes() - grown_bytes
        if grown_bytes > self._reader.input_bytes:
            self._failed(given, f"the process grew by {grown_bytes >> 20} MiB")

    def _failed(self, given: object, why: str) -> None:
        shown = repr(given)
        cut = "" if len(shown) <= _SHOWN else f"... ({len(shown)} characters)"
        self.failures.append(f"input {self.tried}, {shown[:_SHOWN]}{cut}: {why}")


def _feed_batch(feeding: _Feeding, inputs: SearchStrategy[Any], seed: int) -> None:
    """Feed what one run of hypothesis draws; it shrinks nothing, as failures do not reach it."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def take(given: object) -> None:
        feeding.take(given)

    take()


def _attempt(reader: Reader, seed: int, processor_s: float) -> Callable[[Path], Outcome]:
    return lambda folder: feed(reader, seed, processor_s, folder)


def _raise_too_slow(*_: object) -> None:
    raise _TooSlowError


def _peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * _KIB
