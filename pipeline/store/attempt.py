"""How far an unfinished stage is, in its working folder: written while it runs, read by others.

    runs/store/.working/<kind>-<fingerprint>/attempt.json

For people who look on (a report, a page that follows a run). No stage fails or resumes because of
it: a disk that refuses it is ignored. No torch here.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.files.names import ATTEMPT
from pipeline.files.whole_files import write_whole
from pipeline.store.locks import holder_of

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config.stage import Progress
    from pipeline.store.store import Store, Working

_EVERY_S = 1.0
_FRESH_S = 5.0  # a record younger than this is believed without a look at the lock

State = Literal["running", "stopped", "failed"]


@dataclass(frozen=True)
class Attempt:
    """An attempt at a stage. label, done, total, note: as a stage says of itself (`Progress`).

    state: `stopped` where its process was asked to, or is gone. error: why it failed. started_s,
    label_since_s, time_s: of the attempt, of its present label, and of this word, since the epoch.
    done_at_first: where the present label began, which is not 0 for a resumed training.
    """

    state: State
    label: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    error: str = ""
    started_s: float = 0.0
    label_since_s: float = 0.0
    done_at_first: int = 0
    time_s: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the present label is over, at its rate so far; None if not known yet."""
        steps, passed_s = self.done - self.done_at_first, self.time_s - self.label_since_s
        if self.state != "running" or steps <= 0 or passed_s <= 0:
            return None
        return (self.total - self.done) * passed_s / steps


class Recorder:
    """Passes progress on, and writes it down once a second at most."""

    def __init__(self, working: Working, show: Progress) -> None:
        self._path, self._show = working.path / ATTEMPT, show
        self._written_s = 0.0
        now_s = time.time()
        self._attempt = Attempt("running", started_s=now_s, label_since_s=now_s)

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        """Take what a stage says of itself."""
        self._show(label, done, total, note)
        now_s, before = time.time(), self._attempt
        is_new = label != before.label
        if is_new:
            before = replace(before, label_since_s=now_s, done_at_first=done)
        self._attempt = replace(
            before, label=label, done=done, total=total, note=note, time_s=now_s
        )
        if is_new or now_s - self._written_s >= _EVERY_S or now_s < self._written_s:
            self._written_s = now_s
            _write(self._path, self._attempt)


def end_attempt(working: Working, state: Literal["stopped", "failed"], error: str) -> None:
    """Write down that an attempt ended before the stage did."""
    if working.path.is_dir():
        before = _read(working.path / ATTEMPT) or Attempt("running", started_s=time.time())
        _write(working.path / ATTEMPT, replace(before, state=state, error=error))


def forget_attempt(working: Working) -> None:
    """Drop the record of an earlier attempt."""
    with suppress(OSError):
        (working.path / ATTEMPT).unlink(missing_ok=True)


def attempt_at(store: Store, kind: str, fingerprint: str) -> Attempt | None:
    """Return the attempt at a stage that is not finished; None if there is none.

    One whose process is gone without a word, as by SIGKILL, is told as stopped.
    """
    working = store.working(kind, fingerprint)
    if not working.path.is_dir():
        return None
    attempt = _read(working.path / ATTEMPT) or Attempt("running")
    if attempt.state == "running" and abs(time.time() - attempt.time_s) < _FRESH_S:
        return attempt  # whoever asks for the lock makes others believe that it is taken
    is_held = holder_of(store.lock_path(working.path.name)) is not None
    if attempt.state == "running" and not is_held:
        return replace(attempt, state="stopped")
    return replace(attempt, state="running", error="") if is_held else attempt


def _read(path: Path) -> Attempt | None:
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Attempt(**fields)
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, attempt: Attempt) -> None:
    try:
        write_whole(path, json.dumps(asdict(attempt)) + "\n", is_flushed=False)
    except OSError:
        return  # the stage itself says what is wrong with the disk, as soon as it matters
