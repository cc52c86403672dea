"""Which files have been hashed already, so that looking at a finished stage reads none of them.

    runs/store/.verified/<kind>-<fingerprint>.json    size, times and inode of each file by name

A record saves time and decides nothing: one that is torn, wrong, stale or not there costs hashing
anew. ctime is in it because no program can set it back, as any can with mtime.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pipeline.files.whole_files import write_whole
from pipeline.store.manifest import OTHER_CONTENTS, sha256_file

# A file that changes again within the resolution of its times (FAT's are the coarsest, 2 s) would
# look unchanged, so younger ones are not recorded.
SETTLED_NS = 2_000_000_000


def find_change(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    *,
    record: Path | None,
    trusts_record: bool,
    leaves_out: str = "",
) -> str | None:
    """Return which file's contents are not as described, or None; they must all be there.

    record: where it is written down what was hashed, None for nowhere. trusts_record: hash only
    what was never hashed as it is now. leaves_out: the ending of names that are not looked at.
    """
    known = {} if record is None else _read(record)
    seen_now = dict[str, Any]()
    for name, expected in files.items():
        if leaves_out and name.endswith(leaves_out):
            seen_now |= {name: known[name]} if name in known else {}
            continue
        path = folder / name
        try:
            now_ns, state = time.time_ns(), path.stat()
            times = (state.st_mtime_ns, state.st_ctime_ns)
            seen = [state.st_size, *times, state.st_ino, expected["sha256"]]
            is_known = trusts_record and known.get(name) == seen
            if not is_known and sha256_file(path) != expected["sha256"]:
                return f"{name} {OTHER_CONTENTS}"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if is_known or now_ns - max(times) > SETTLED_NS:
            seen_now[name] = seen
    if record is not None and seen_now != known:
        _write(record, seen_now)
    return None


def _read(record: Path) -> dict[str, Any]:
    try:
        known = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", known) if isinstance(known, dict) else {}


def _write(record: Path, entries: Mapping[str, Any]) -> None:
    """Write a record, not flushed; where that fails (a store that only can be read) go without."""
    with contextlib.suppress(OSError):
        record.parent.mkdir(exist_ok=True)
        write_whole(record, json.dumps(entries), is_flushed=False)
