"""When a program that is not ours to change wrote the log lines of its training.

A log line is a line with a loss. The time is that of the file's last change, so looking ten times
a second is enough for lines that are further apart.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_EVERY_S = 0.1
_LOSS = re.compile(rb"['\"]loss['\"]")


class LogTimes:
    """Watches log files while it is entered; times_s: of each log's lines, of the file's clock.

    find: the files that are there by now, by the log's name; a log may move while it is watched.
    """

    def __init__(self, find: Callable[[], Mapping[str, Path]]) -> None:
        self._find = find
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.times_s: dict[str, list[float]] = {}

    def __enter__(self) -> LogTimes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        for name, path in self._find().items():
            try:
                num_lines = len(_LOSS.findall(path.read_bytes()))
                changed_s = path.stat().st_mtime_ns / 1e9
            except FileNotFoundError:  # it has moved since
                continue
            times_s = self.times_s.setdefault(name, [])
            times_s += [changed_s] * (num_lines - len(times_s))
