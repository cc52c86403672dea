"""A labeller's decisions on disk: each is there, flushed, before anybody is told that it is.

One process writes at a time. Whatever kills it, the next one finds every decision that the page
showed as saved, and makes the preferences anew where they had not followed yet. What the files hold
is decisions.py's subject.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.errors import PosttrainError
from pipeline.feedback.decisions import (
    Decision,
    TakenBack,
    decisions_path,
    parse_decisions,
    preferences_of,
)
from pipeline.files.disk_errors import one_line
from pipeline.files.plain_files import other_than_a_file
from pipeline.files.whole_files import flush, is_at, write_whole
from pipeline.store.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_OTHER_OUT = "name another file with --out"


class Record:
    """The decisions that stand, and the two files that hold them. Made by `open_record`."""

    def __init__(self, preferences: Path, descriptor: int, decisions: list[Decision]) -> None:
        self.preferences = preferences
        self.decisions = decisions
        self._log = decisions_path(preferences)
        self._descriptor = descriptor
        self._sizes = [len(decision.preference()) for decision in decisions]  # bytes

    def add(self, decision: Decision) -> None:
        """Write a decision; PosttrainError or InfrastructureError leaves none of it behind."""
        self._check_preferences()
        preference = decision.preference()
        before = os.fstat(self._descriptor).st_size
        with one_line(str(self._log)):
            _append(self._descriptor, decision.line())
            try:
                if preference:
                    self._append_preference(preference)
            except BaseException:
                os.ftruncate(self._descriptor, before)
                raise
        self.decisions.append(decision)
        self._sizes.append(len(preference))

    def take_back(self, when: str) -> Decision:
        """Take the last decision back, and its preference out of the file."""
        self._check_preferences()
        last = self.decisions[-1]
        line = TakenBack(taken_back=last.pair, showing=last.showing, when=when).line()
        with one_line(str(self._log)):
            _append(self._descriptor, line)
            self.decisions.pop()
            if self._sizes.pop():
                os.truncate(self.preferences, sum(self._sizes))
                flush(self.preferences)
        return last

    def _check_preferences(self) -> None:
        """Raise PosttrainError where somebody else has changed the preferences meanwhile."""
        size = self.preferences.stat().st_size if self.preferences.exists() else 0
        if size != sum(self._sizes):
            message = "was changed while `posttrain label` runs"
            raise PosttrainError(str(self.preferences), message, "end it and move the file away")

    def _append_preference(self, line: bytes) -> None:
        is_new = not self.preferences.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self.preferences, flags, 0o666)
        try:
            _append(descriptor, line)
        finally:
            os.close(descriptor)
        if is_new:
            flush(self.preferences.absolute().parent)


@contextmanager
def open_record(preferences: Path, labeller: str) -> Generator[Record]:
    """Open the files of a labeller to write, alone; the preferences are brought in step.

    Raises PosttrainError where another process writes them, they are another labeller's, they were
    changed by hand, or there is a file of another kind.
    """
    check_out(preferences)
    log = decisions_path(preferences)
    with one_line(str(log)):
        descriptor = _open_alone(log)
    try:
        decisions = _read_open(descriptor, log)
        check_labeller(decisions, labeller, log)
        _bring_in_step(preferences, log, decisions)
        yield Record(preferences, descriptor, decisions)
    finally:
        if os.fstat(descriptor).st_size == 0:  # nothing was decided: leave nothing behind
            log.unlink(missing_ok=True)
        os.close(descriptor)


def check_out(preferences: Path) -> None:
    """Raise PosttrainError for a file that cannot be one of preferences."""
    where = str(preferences)
    if preferences.suffix != ".jsonl" or preferences.name.endswith(".decisions.jsonl"):
        raise PosttrainError("--out", f"`{where}` is not NAME.jsonl", "name such a file")
    if not preferences.absolute().parent.is_dir():
        message = f"there is no folder `{preferences.absolute().parent}`"
        raise PosttrainError("--out", message, "make it first")
    for path in (preferences, decisions_path(preferences)):
        kind = other_than_a_file(path)
        if kind is not None:
            raise PosttrainError(str(path), f"is {kind}", _OTHER_OUT)


def check_labeller(decisions: list[Decision], labeller: str, log: Path) -> None:
    """Raise PosttrainError where the decisions are somebody else's."""
    other = next((one.labeller for one in decisions if one.labeller != labeller), None)
    if other is not None:
        hint = f"go on with --labeller {other}, or {_OTHER_OUT}"
        raise PosttrainError(str(log), f"holds the decisions of `{other}`", hint)


def _open_alone(log: Path) -> int:
    """Return the descriptor of the file of decisions, which no other process writes."""
    while True:
        is_new = not log.exists()
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(descriptor, log)
            if is_at(descriptor, log.resolve()):  # else whoever had it has just removed it
                if is_new:
                    flush(log.absolute().parent)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, log: Path) -> None:
    if not try_lock(descriptor, log):
        message = "another `posttrain label` writes to it"
        raise PosttrainError(str(log), message, f"end that one, or {_OTHER_OUT}")


def _read_open(descriptor: int, log: Path) -> list[Decision]:
    """Return the decisions; what a killed process left of a line is cut off."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    decisions = parse_decisions(content, str(log))
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.ftruncate(descriptor, whole)
        os.fsync(descriptor)
    return decisions


def _bring_in_step(preferences: Path, log: Path, decisions: list[Decision]) -> None:
    """Write the preferences where a killed process had not; PosttrainError for any other change."""
    expected = preferences_of(decisions)
    if not preferences.exists():
        if expected:
            write_whole(preferences, expected.decode())
        return
    found = preferences.read_bytes()
    if found == expected:
        return
    last = decisions[-1].preference() if decisions else b""
    is_behind = expected.startswith(found) and len(expected) - len(found) <= len(last)
    is_ahead = found.startswith(expected) and _was_taken_back(log, found[len(expected) :])
    if not is_behind and not is_ahead:
        known = "is no file of `posttrain label`" if not decisions else "was changed by hand"
        hint = f"move it away, or {_OTHER_OUT}"
        if decisions:
            hint = f"move it away: it is written anew from {log.name}; or {_OTHER_OUT}"
        raise PosttrainError(str(preferences), known, hint)
    write_whole(preferences, expected.decode())


def _was_taken_back(log: Path, line: bytes) -> bool:
    """Whether what is too much is the preference that the last line of decisions takes back."""
    lines = log.read_bytes().split(b"\n")[:-1]
    if not lines or not lines[-1].startswith(b'{"taken_back"'):
        return False
    before = parse_decisions(b"\n".join([*lines[:-1], b""]), str(log))
    return bool(before) and before[-1].preference() == line


def _append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file and flush it, or leave the file as it was."""
    before = os.fstat(descriptor).st_size
    left = memoryview(line)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
