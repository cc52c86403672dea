"""The sha256 of a user's big files, so that a plan reads none of them twice.

    runs/store/.verified/sources.json    size, times, inode and sha256 by path

The record saves time and decides nothing. ctime is in it because no program can set it back, as any
can with mtime; what was written within the last two seconds is not noted (verified_files.py).
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pipeline.files.whole_files import write_whole
from pipeline.store.manifest import sha256_file
from pipeline.store.verified_files import SETTLED_NS

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "sources.json"
BIG_BYTES = 1 << 24  # smaller ones are hashed in hundredths of a second
_MOST = 1_000  # files; beyond that the oldest notes go


class HashedFiles:
    """Hashes files, and knows what it hashed. folder: of the record; None to keep none."""

    def __init__(self, folder: Path | None) -> None:
        self._record = None if folder is None else folder / _NAME
        self._known: dict[str, Any] | None = None

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file, read unless it is as it was; OSError if it cannot be."""
        before_ns, state = time.time_ns(), path.stat()
        if self._record is None or state.st_size < BIG_BYTES:
            return sha256_file(path)
        times = (state.st_mtime_ns, state.st_ctime_ns)
        seen = [state.st_size, *times, state.st_ino]
        name = str(path.resolve())
        known = self._read()
        if isinstance(entry := known.get(name), list) and entry[:-1] == seen:
            return str(entry[-1])
        digest = sha256_file(path)
        if before_ns - max(times) > SETTLED_NS:
            known.pop(name, None)
            known[name] = [*seen, digest]
            with suppress(OSError):  # a store that can only be read, or none yet
                self._record.parent.mkdir(exist_ok=True)
                newest = dict([*known.items()][-_MOST:])
                write_whole(self._record, json.dumps(newest), is_flushed=False)
        return digest

    def _read(self) -> dict[str, Any]:
        if self._known is None:
            self._known = {}
            assert self._record is not None
            with suppress(OSError, ValueError, RecursionError):
                known = json.loads(self._record.read_bytes())
                if isinstance(known, dict):
                    self._known = cast("dict[str, Any]", known)
        return self._known
