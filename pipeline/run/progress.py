"""How far a stage and its run are, with rate and time left: a bar on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from pipeline.config.point_names import short_name
from pipeline.text.visible import escape, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.progress import Progress, TaskID

    from pipeline.run.course import Course

# Without a terminal: a first line of each label after this, then each after twice as long.
_FIRST_LINE_S, _LINE_AT_LEAST_EVERY_S = 10.0, 60.0
_LONGEST_LABEL = 36
_WIDE = 110  # columns of a terminal that has room for the note, too


class Display(Protocol):
    """Where a stage's progress is shown, and lines that stay."""

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        """Show how far a stage is; as `pipeline.config.stage.Progress`."""
        ...

    def say(self, line: str) -> None:
        """Show a line about the stage that stays."""
        ...


def silent(label: str, done: int, total: int, note: str = "") -> None:
    """Show nothing: for all ranks but the first, and for tests."""


@contextmanager
def show_progress(
    name: str, stream: TextIO | None = None, *, course: Course | None = None
) -> Generator[Display]:
    """Yield a progress function for the stage of this name, shown on stderr or `stream`.

    course: where it stands in its run; None for work that is not part of a run.
    """
    with Board(stream) as board, board.show(name, course) as display:
        yield display


class Board:
    """Where several stages show how far they are, at once: a bar each on a terminal, else lines.

    Threads may use it; it is shown while it is entered.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars: Progress | None = None

    def __enter__(self) -> Board:
        if self._stream.isatty():
            self._bars = _make_bars(self._stream)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def show(self, name: str, course: Course | None) -> Generator[Display]:
        """Yield a progress function for one stage, whose bar goes when the block is left."""
        if self._bars is None:
            yield _Lines(name, self._stream, course)
            return
        display = _Bars(name, self._bars, course)
        try:
            yield display
        finally:
            display.remove()

    @contextmanager
    def hidden(self) -> Generator[None]:
        """Draw nothing for the duration: another process may."""
        if self._bars is not None:
            self._bars.stop()
        try:
            yield
        finally:
            if self._bars is not None:
                self._bars.start()

    def say(self, line: str, otherwise: Callable[[str], None]) -> None:
        """Show a line of the run's: above the bars, or by `otherwise` where they do not stand."""
        if self._bars is None or not sys.stdout.isatty():
            otherwise(line)
            return
        self._bars.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def _make_bars(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(file=stream)
    columns = (
        TextColumn("[bold]{task.fields[stage]}[/] {task.description}"),
        BarColumn(bar_width=24 if console.width >= _WIDE else 10),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("[cyan]{task.fields[rate]}[/]"),
        *([TextColumn("[dim]{task.fields[note]}[/]")] if console.width >= _WIDE else []),
    )
    is_shared = sys.stdout.isatty()  # what goes into a file is not to be shown here instead
    return Progress(*columns, console=console, transient=True, redirect_stdout=is_shared)


class _Rate:
    """Rate and time left of one label, measured from its first step on, and of the whole run."""

    def __init__(self, course: Course | None) -> None:
        self._course = course
        self._label = ""
        self._started_s = 0.0
        self._started_at = 0

    def text(self, label: str, done: int, total: int) -> str:
        now_s = time.monotonic()
        if label != self._label:
            self._label, self._started_s, self._started_at = label, now_s, done
        passed_s = now_s - self._started_s
        steps = done - self._started_at
        if steps <= 0 or passed_s <= 0:
            return ""
        rate = steps / passed_s
        left_s = (total - done) / rate
        words = f"{_rate(rate)}, {clock(left_s)} left"
        if self._course is None or self._course.of == 1 or self._course.later_s is None:
            return words
        return f"{words}, {clock(left_s + self._course.later_s)} for all"


class _Bars:
    def __init__(self, name: str, bars: Progress, course: Course | None) -> None:
        self._name = _name_with_number(short_name(name), course)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._rate = _Rate(course)

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        if label not in self._tasks:
            for task in self._tasks.values():
                self._bars.update(task, visible=False)
            self._tasks[label] = self._bars.add_task(
                _fitting(label), total=total, stage=escape(self._name), note="", rate=""
            )
        rate = self._rate.text(label, done, total)
        self._bars.update(
            self._tasks[label], completed=done, total=total, note=note, rate=rate, visible=True
        )

    def remove(self) -> None:
        for task in self._tasks.values():
            self._bars.remove_task(task)

    def say(self, line: str) -> None:
        self._bars.console.print(
            f"{self._name:<14} {line}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class _Lines:
    def __init__(self, name: str, stream: TextIO, course: Course | None) -> None:
        self._name = _name_with_number(name, course)
        self._stream = stream
        self._rate = _Rate(course)
        self._label = ""
        self._last_s = time.monotonic()
        self._wait_s = _FIRST_LINE_S

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        rate = self._rate.text(label, done, total)
        now_s = time.monotonic()
        if label != self._label:
            self._label, self._wait_s = label, _FIRST_LINE_S
        if now_s - self._last_s < self._wait_s:
            return
        self._last_s, self._wait_s = now_s, min(2 * self._wait_s, _LINE_AT_LEAST_EVERY_S)
        parts = [f"{self._name} {label} {done}/{total}", rate, note]
        self._write("  " + ", ".join(part for part in parts if part))

    def say(self, line: str) -> None:
        self._write(f"{self._name:<14} {line}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _fitting(label: str) -> str:
    """Return a label that leaves room for the bar and the time."""
    if len(label) <= _LONGEST_LABEL:
        return label
    return f"{label[: _LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _name_with_number(name: str, course: Course | None) -> str:
    return name if course is None or course.of == 1 else f"{course.number}/{course.of} {name}"


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{1 / per_s:.1f} s each"


def clock(seconds: float) -> str:
    """Return `0:07`, `12:34` or `1:02:03`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest_s:02}" if hours else f"{minutes}:{rest_s:02}"
