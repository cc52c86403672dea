"""Where a process is killed, at the n-th thing it does to files, and what a power loss then takes.

In the child, `Points` counts what it does to files below a folder and kills it with SIGKILL before
a given one; it also writes down what was flushed, outside of that folder. In the parent,
`lose_power` damages what was not: a file that was not flushed since it was written last may be
empty, half, or zeros; a name in a folder that was not flushed may be gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

_CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Points:
    """What a child does to files below `folder`, a line each in `trace`; killed before number at.

    at: counted from 1; 0 for never.
    """

    folder: Path
    trace: Path
    at: int = 0

    def watch(self) -> None:
        """Count from here on, in this process."""
        out = os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        root = str(self.folder.resolve())
        aliases = (root, str(self.folder))
        count = 0
        real_fsync = os.fsync

        def passed(what: str, path: str) -> None:
            nonlocal count
            count += 1
            os.write(out, f"{what}\t{path}\n".encode())
            if count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = arguments
                if not isinstance(path, str | os.PathLike) or not (flags & _WRITING):
                    return
            elif event in _CHANGES:
                path = arguments[0]
            else:
                return
            name = os.fspath(path) if not isinstance(path, int) else ""
            if isinstance(name, str) and name.startswith(aliases):
                passed(event, name)

        def fsync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if path.startswith(root):
                passed("fsync", path)
            real_fsync(descriptor)
            state = os.fstat(descriptor)
            os.write(out, f"flushed\t{path}\t{_mark(state)}\n".encode())
            if os.path.isdir(path):  # noqa: PTH112
                for name in os.listdir(path):  # noqa: PTH208
                    os.write(out, f"named\t{path}/{name}\n".encode())

        os.fsync = fsync
        sys.addaudithook(on_event)

    def num(self) -> int:
        """Return how many things it did."""
        return len(self.done())

    def done(self) -> list[tuple[str, str]]:
        """Return what it did to which path, in order."""
        lines = (line.split("\t") for line in self.trace.read_text().splitlines())
        return [(line[0], line[1]) for line in lines if line[0] not in ("flushed", "named")]


def safe_before(folder: Path) -> tuple[set[str], set[str]]:
    """Return what is safe on the disk before anything happens: files' marks, and all names."""
    found = os.walk(folder.resolve())
    paths = [Path(each[0]) / name for each in found for name in each[1] + each[2]]
    return {_mark(path.lstat()) for path in paths}, {str(path) for path in paths}


def lose_power(
    folder: Path, trace: Path, before: tuple[set[str], set[str]], drawn: Random
) -> list[str]:
    """Damage what a killed child left unflushed below a store; returns what, a line each."""
    marks, names = (set(each) for each in before)
    root = folder.resolve()
    for line in trace.read_text().splitlines():
        what, *rest = line.split("\t")
        if what == "flushed" and len(rest) == 2:
            marks.add(rest[1])
        elif what == "named":
            names.add(rest[0])
    said: list[str] = []
    for path in sorted(root.rglob("*")):
        if ".locks" in path.parts or not path.exists() or path.is_symlink():
            continue
        name = path.relative_to(root)
        is_loose = ".working" in path.parts and str(path) not in names
        if is_loose and drawn.random() < 0.5:
            said.append(f"{name} is gone")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.is_file() and _mark(path.stat()) not in marks:
            said.append(f"{name} is {_damage(path, drawn)}")
    return said


def _damage(path: Path, drawn: Random) -> str:
    size = path.stat().st_size
    what = drawn.choice(("whole", "empty", "half", "zeros", "zeros at its end"))
    content = path.read_bytes()
    if what == "empty":
        path.write_bytes(b"")
    elif what == "half":
        path.write_bytes(content[: size // 2])
    elif what == "zeros":
        path.write_bytes(bytes(size))
    elif what == "zeros at its end":
        path.write_bytes(content[: size // 2] + bytes(size - size // 2))
    return what


def _mark(state: os.stat_result) -> str:
    return f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"
