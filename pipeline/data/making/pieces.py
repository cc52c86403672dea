"""What a stage makes row by row, kept in checkpoints: a killed stage goes on behind the last one.

    checkpoints/checkpoint-192/rows-00000000.jsonl   the first rows, linked from the one before
    checkpoints/checkpoint-192/rows-00000128.jsonl   those that were new

Which rows are worked on together is the stage's to say and must not depend on where it goes on;
when a checkpoint is written changes nothing. No torch here.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.json_lines import read_lines
from pipeline.files.whole_files import flush

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.config.stage import StageContext

_FILES = "rows-*.jsonl"
_LEAST_S = 1.0  # between two checkpoints
_SHARE = 0.05  # of the time, at most, that writing checkpoints takes


class Pieces:
    """The rows made so far, in the order in which they were made.

    total: how many there will be. Those of the checkpoint to resume from are there already.
    """

    def __init__(self, context: StageContext, total: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.total = total
        self._context = context
        self._sealed = context.resume_from
        if self._sealed is not None:
            for path in sorted(self._sealed.glob(_FILES)):
                self.rows += read_lines(path)
            if len(self.rows) > total:
                message = f"has {len(self.rows)} rows of {total}"
                raise CorruptArtifactError(str(self._sealed), message, "delete it and run again")
        self._num_sealed = len(self.rows)
        self._sealed_s, self._took_s = time.monotonic(), 0.0

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take rows that are made; JSON objects, which are the same when they are read back."""
        self.rows += rows
        since_s = time.monotonic() - self._sealed_s
        if since_s >= max(_LEAST_S, self._took_s / _SHARE):
            self.seal()

    def seal(self) -> None:
        """Write a checkpoint of all rows so far, if there are new ones."""
        if len(self.rows) == self._num_sealed:
            return
        began_s = time.monotonic()
        folder = self._context.checkpoints / f"checkpoint-{len(self.rows)}"
        if folder.exists():  # never sealed: a kill came before
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for path in sorted(self._sealed.glob(_FILES)) if self._sealed is not None else ():
            _link(path, folder / path.name)
        new = self.rows[self._num_sealed :]
        path = folder / _FILES.replace("*", f"{self._num_sealed:08}")
        path.write_text(
            "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in new), encoding="utf-8"
        )
        flush(path)
        self._context.seal(folder, len(self.rows), self.total, None)
        self._sealed, self._num_sealed = folder, len(self.rows)
        self._sealed_s = time.monotonic()
        self._took_s = self._sealed_s - began_s


def _link(path: Path, place: Path) -> None:
    """Put a file, which never changes, into another folder; a copy where there are no links."""
    try:
        os.link(path, place)
    except OSError:
        shutil.copyfile(path, place)
