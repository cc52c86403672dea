"""Runs untrusted programs, test code and SQL in boxes: confined processes, milliseconds each.

A box has no file, no network, no other process and no environment; Landlock, seccomp and resource
limits see to that (reward/boxes/confine.py). Where they cannot be set up, every function here
raises `SandboxUnavailable`: nothing ever runs unconfined. What is expected of a program is never in
its box, so that neither its exit code nor what it writes or overwrites decides anything. Not a
verdict: see reward/verifiers.
"""

import json
import math
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reward.boxes import values
from reward.boxes.channel import BROKEN
from reward.boxes.pool import (
    Box,
    BoxError,
    InfrastructureError,
    Limits,
    SandboxUnavailable,
    Zygote,
    leased,
)

__all__ = [
    "Answer",
    "Call",
    "Outcome",
    "SandboxUnavailable",
    "require_sandbox",
    "run_calls",
    "run_grader",
    "run_select",
    "run_tests",
]

Status = Literal["finished", "failed", "timeout", "died", "broken", "infrastructure"]

MIB = 1 << 20
# A sleeping program takes no processor time, one on a busy machine more than its own on the clock.
_CLOCK_PER_CPU_SECOND = 3.0
_SMALLEST_MEMORY_BYTES = 128 * MIB
_MAX_REASON = 200
_EXITS = "raised SystemExit"
# What programs that work around their tests use; harmless here, and worth counting.
_SUSPICIOUS = re.compile(
    r"\b(?:_exit|sys\.exit|raise SystemExit|excepthook|_getframe|currentframe|f_back|f_locals"
    r"|f_globals|__eq__|__subclasses__|__globals__|gc\.get_\w+|ctypes|settrace|setprofile|execv\w*"
    r"|/proc/self)\b"
)


@dataclass(frozen=True)
class Call:
    """A call of one of the program's functions, with plain values (reward/boxes/values.py)."""

    function: str
    arguments: Sequence[Any] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Answer:
    """What a call gave. error: what it raised instead, in one line, "" if it returned."""

    value: Any = None
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    status: `finished`, everything was answered, or all tests hold; `failed`, the program raised
        while it was loaded, or a test does not hold; `timeout`; `died`, the process ended before it
        answered; `broken`, the tests or the schema cannot be run whatever the program is;
        `infrastructure`, the machine failed twice, which says nothing about the program.
    reason: why it is not finished, in one line.
    answers: of the calls that were answered, in order.
    signals: what reward hacking looks like and was seen, for counting; honest programs have some.
    """

    status: Status
    reason: str = ""
    answers: tuple[Answer, ...] = ()
    signals: tuple[str, ...] = ()


def require_sandbox() -> None:
    """Raise SandboxUnavailable, with a sentence that says why, where programs cannot be run."""
    outcome = run_calls("", [])
    if outcome.status != "finished":
        raise SandboxUnavailable(outcome.reason)


def run_calls(
    program: str,
    calls: Sequence[Call],
    *,
    timeout_s: float = 3.0,
    memory_bytes: int = 512 * MIB,
) -> Outcome:
    """Load a program and call its functions; comparing what they return is the caller's part.

    Arguments and values are copies: a function that works in place is seen by what it returns.
    timeout_s: processor seconds for all of it, rounded up; on the clock it may be three times that.
    memory_bytes: address space, the interpreter's 40 MiB included. Raises TypeError for arguments
    that are no plain values, ValueError for limits that make no sense.
    """
    requests = [
        _json(
            call={"name": call.function},
            arguments=values.encode(list(call.arguments), values.not_plain),
            keywords=values.encode(dict(call.keywords), values.not_plain),
        )
        for call in calls
    ]

    def steps(run: _Run) -> tuple[Status, str]:
        replies = run.open().ask_all([_json(program=program), *requests])
        loaded = run.answer(next(replies))
        if loaded.error:
            return "failed", loaded.error
        run.answers.extend(map(run.answer, replies))
        return "finished", ""

    return _in_boxes(steps, program, timeout_s, memory_bytes)


def run_tests(
    program: str,
    tests: str,
    *,
    entry_point: str = "",
    given: str = "",
    timeout_s: float = 3.0,
    memory_bytes: int = 512 * MIB,
) -> Outcome:
    """Run test code on a program, each in a box of its own.

    tests: assertions, as in MBPP, or a `check(candidate)`, as in HumanEval, which is called with
    the program's `entry_point`. A name that the tests use and do not define is the program's: calls
    of it go to the program's box, and plain values come back; builtins are the tests' own, unless
    one is called like the `entry_point`. given: source of what the tests may use besides (helpers
    that a prompt defines), so that a program cannot bring its own; a function named `entry_point`
    in it does not count. Limits as in `run_calls`, for each of the two boxes.

    What this does not protect from: tests that hold for wrong programs (`assert f(1)` holds for any
    true value), and programs that know the tests by heart.
    """
    request = _json(program=program, tests=tests, given=given, entry_point=entry_point)

    def steps(run: _Run) -> tuple[Status, str]:
        status, reason = json.loads(run.open_two().ask(request))
        if status in ("died", "no reply"):
            raise BoxError(status, 0)
        if status == "infrastructure":
            raise InfrastructureError(reason)
        if "SystemExit" in reason:
            run.signals.append(_EXITS)
        return status, _line(reason)

    return _in_boxes(steps, program, timeout_s, memory_bytes)


def run_select(
    schema: str, query: str, *, timeout_s: float = 3.0, memory_bytes: int = 256 * MIB
) -> Outcome:
    """Run one SELECT on a SQLite database in memory; its one answer is the list of rows.

    schema: statements that make the database, trusted not to be wrong but confined all the same.
    query: may read tables and nothing else: no other statement, no second one, no pragma.
    """

    def steps(run: _Run) -> tuple[Status, str]:
        answer = run.answer(run.open().ask(_json(schema=schema, query=query)))
        if answer.error:
            return ("broken" if answer.error.startswith(BROKEN) else "failed"), answer.error
        run.answers.append(answer)
        return "finished", ""

    return _in_boxes(steps, "", timeout_s, memory_bytes)


def run_grader(
    setup: str, entry: str, answer: str, *, timeout_s: float = 5.0, memory_bytes: int = 2048 * MIB
) -> Outcome:
    """Grade an answer with a dataset of reasoning-gym; the outcome's one answer is the score.

    setup, entry: as reward/boxes/gym.py has them. What the dataset's grader raised is the answer's
    error.
    """

    def steps(run: _Run) -> tuple[Status, str]:
        graded = run.answer(run.open().ask(_json(entry=entry, answer=answer)))
        run.answers.append(graded)
        return ("failed", graded.error) if graded.error else ("finished", "")

    return _in_boxes(steps, "", timeout_s, memory_bytes, setup)


def answer_of(reply: bytes, budget: values.Budget) -> Answer:
    """Read a reply, which is whatever the program made of it; nonsense is an answer's error.

    Raises TimeoutError after the budget's deadline, and nothing else.
    """
    try:
        match values.parse(reply, budget):
            case {"raised": [str(name), str(words)]}:
                return Answer(error=_line(f"{name}: {words}" if words else name))
            case {"value": value}:
                return Answer(values.decode(value, values.unknown, budget))
            case _:
                return Answer(error="it is no reply")
    except ValueError as error:
        return Answer(error=_line(f"it is no plain value: {error}"))


class _Run:
    """One run in a zygote's boxes, and what is seen of it."""

    def __init__(self, zygote: Zygote, limits: Limits, clock_s: float) -> None:
        self._zygote = zygote
        self._limits = limits
        self._clock_s = clock_s
        self._budget = values.Budget()
        self._box: Box | None = None
        self.answers: list[Answer] = []
        self.signals: list[str] = []

    def open(self) -> Box:
        self._box = self._zygote.open(self._limits, self._clock_s)
        return self._box

    def open_two(self) -> Box:
        return self._zygote.open_two(self._limits, self._clock_s)

    def answer(self, reply: bytes) -> Answer:
        """Read a reply within the box's time. Raises BoxError if that is over."""
        assert self._box is not None
        self._budget.deadline_s = self._box.deadline_s
        try:
            answer = answer_of(reply, self._budget)
        except TimeoutError as error:
            raise BoxError("timeout", 0) from error
        if answer.error.startswith("SystemExit"):
            self.signals.append(_EXITS)
        return answer

    def failure(self, error: BoxError) -> tuple[Status, str]:
        """Say why no answer came. Raises InfrastructureError if it was no doing of the program."""
        ending = self._zygote.end()[error.number]
        code = os.waitstatus_to_exitcode(ending.status)
        # The limit counts in ticks of the clock, which on a busy machine are more than was used.
        is_out_of_time = code == -signal.SIGKILL and ending.cpu_s > 0.5 * self._limits.cpu_s
        if error.kind == "timeout" or (error.kind == "died" and is_out_of_time):
            return "timeout", f"no end within {self._limits.cpu_s} s"
        if error.kind == "no reply":
            self.signals.append("wrote a reply of its own")
            return "died", "it wrote something that is no reply"
        if code == -signal.SIGKILL:  # nothing in a box can send it: the kernel is out of memory
            raise InfrastructureError("a box was killed from outside")
        if code < 0:
            return "died", f"it was ended by {signal.Signals(-code).name}"
        self.signals.append("ended its process")
        return "died", "it ended its process"


def _in_boxes(
    steps: Callable[[_Run], tuple[Status, str]],
    program: str,
    timeout_s: float,
    memory_bytes: int,
    setup: str = "",
) -> Outcome:
    """Do a run, once more if the machine fails. setup: of the zygote."""
    if not 0 < timeout_s < math.inf or memory_bytes < _SMALLEST_MEMORY_BYTES:
        raise ValueError("a program needs some time and at least 128 MiB of address space")
    limits = Limits(cpu_s=math.ceil(timeout_s), memory_bytes=memory_bytes)
    suspicious = dict.fromkeys(_SUSPICIOUS.findall(program))
    reason = ""
    for is_second_try in (False, True):
        try:
            with leased(new=is_second_try, setup=setup) as zygote:
                run = _Run(zygote, limits, timeout_s * _CLOCK_PER_CPU_SECOND)
                try:
                    status, reason = steps(run)
                    zygote.drop()
                except BoxError as error:
                    status, reason = run.failure(error)
                signals = (*suspicious, *dict.fromkeys(run.signals))
                return Outcome(status, reason, tuple(run.answers), signals)
        except InfrastructureError as error:
            reason = str(error)
    return Outcome("infrastructure", reason)


def _line(words: str) -> str:
    """Return what may hold anything as one short line of printable characters."""
    line = " ".join(words[: 4 * _MAX_REASON].split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)[:_MAX_REASON]


def _json(**message: object) -> bytes:
    return json.dumps(message).encode()
