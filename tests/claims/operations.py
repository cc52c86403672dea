"""G2: stopped at every file operation of every writer, by SIGKILL or by an error of the disk.

Afterwards nothing half-written counts as finished, a command that failed said so in a line, and the
next run ends with the bytes of a run that nothing stopped, and leaves nothing else.
"""

from __future__ import annotations

import shutil
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.claims.claim import Case, Claim, Outcome
from tests.claims.operation_writers import WRITERS, Writer, contents, half_written
from tests.file_faults import FAULTS, Stop, run_stopped

if TYPE_CHECKING:
    from random import Random

_PARTS = 3  # cases a writer and fault, so that two processes share them evenly
_LIMIT_S = 300.0


def cases(random: Random, times: int) -> list[Case]:
    """Return three cases for each writer and fault; each takes every third operation tried."""
    found: list[Case] = []
    for writer in WRITERS:
        every = max(1, writer.every // times)
        for fault in FAULTS:
            first = random.randrange(every)
            for part in range(_PARTS):
                name = f"{writer.name}, {fault}, from {first + part * every + 1}"
                start, step = first + part * every + 1, every * _PARTS
                attempt = partial(_try_all, writer=writer, fault=fault, start=start, step=step)
                found.append(Case(name, attempt, _LIMIT_S))
    return found


@cache
def _whole(writer: Writer) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what the writer leaves when nothing stops it, and the operations it does."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="posttrain-operations-") as name:
        folder = Path(name).resolve() / "work"
        writer.begin(folder)
        log = folder.with_name("log")
        ended, operations = run_stopped(lambda: writer.act(folder), Stop(folder), log)
        assert ended.code == 0, ended.output
        assert not half_written(folder)
        return contents(folder), tuple(operations)


def _try_all(folder: Path, *, writer: Writer, fault: str, start: int, step: int) -> Outcome:
    expected, operations = _whole(writer)
    failures: list[str] = []
    numbers = range(start, len(operations) + 1, step)
    for number in numbers:
        work = folder.resolve() / f"at-{number}"
        writer.begin(work)
        stop = Stop(work, fault, number)
        trouble = _try_one(work, writer, stop, expected)
        if trouble is not None:
            failures.append(f"operation {number}, {operations[number - 1]}: {trouble}")
        shutil.rmtree(work)
    return Outcome(len(numbers), tuple(failures), {fault: len(numbers)})


def _try_one(work: Path, writer: Writer, stop: Stop, expected: dict[str, str]) -> str | None:
    """Return what did not hold, None if all did."""
    log = work.with_name(f"{work.name}.log")
    ended, _ = run_stopped(lambda: writer.act(work), stop, log)
    if stop.fault == "killed" and ended.code is not None:
        return f"it ended with {ended.code} and was not killed: {ended.output[-300:]}"
    if stop.fault != "killed" and ended.code not in (0, 3):
        return f"it ended with {ended.code}: {ended.output[-600:]}"
    if "Traceback" in ended.output:
        return f"a traceback: {ended.output[-600:]}"
    seen = half_written(work)
    if seen:
        return f"half-written: {seen}"
    again = ended
    if ended.code != 0 or contents(work) != expected:  # an error may be borne: what was replaced
        # is not gone yet, or a log line is missing
        again, _ = run_stopped(lambda: writer.act(work), Stop(work), log)
    if again.code != 0 and not (writer.done_says and writer.done_says in again.output):
        return f"the next one ended with {again.code}: {again.output[-600:]}"
    found = contents(work)
    if found != expected:
        differ = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        return f"the next one left other things: {differ[:4]}"
    return None


CLAIM = Claim(
    "G2",
    "killed, or refused by the disk, at any file operation of any writer: nothing half-written "
    "counts, it is said in a line, and the next run ends in the right bytes",
    cases,
    least=1000,
)
