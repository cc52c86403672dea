"""Stops a forked child at its n-th file operation: killed there, or the operation refused.

Counted are the operations of Python code that change what lies below one folder: opening for
writing, write, truncate, fsync, rename, mkdir, unlink, rmdir, symlink, and the copies of shutil.
What native code writes is seen as one operation where Python calls it: safetensors' and torch's
whole files. tokenizers' `save` is not seen, nor what is written through memory maps.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.forked import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = ("killed", "ENOSPC", "EIO", "EINTR")
_GROWS = frozenset({"open", "write", "mkdir", "symlink", "native write", "sendfile"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Stop:
    """Where and how: at the at-th operation (0: nowhere) below a folder.

    A full disk stays full for whatever makes it fuller; the other errors come once.
    """

    below: Path
    fault: str = "killed"
    at: int = 0
    spared: str = "/.verified/"  # written or not by the clock; losing it costs a hash
    seen: list[str] = field(default_factory=list[str])

    def reach(self, operation: str, path: str, torn: Callable[[], object] = lambda: None) -> None:
        """Count an operation; at the chosen one do half of it (torn), then die or raise."""
        self.seen.append(f"{operation} {os.path.relpath(path, self.below)}")
        number = len(self.seen)
        if not self.at or number < self.at:
            return
        if number == self.at:
            if self.fault != "EINTR":  # a write that was interrupted halfway returns its half
                torn()
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault != "ENOSPC" or operation not in _GROWS:
            return
        code = getattr(errno, self.fault)
        if operation == "native write":
            raise _as_native(path, code)
        raise OSError(code, os.strerror(code), path)

    def covers(self, file: Any, folder: int | None = None) -> str | None:
        """Return a file's path if it lies below the folder."""
        if isinstance(file, int):
            path = str(Path(f"/proc/self/fd/{file}").readlink()).removesuffix(" (deleted)")
        else:
            path = os.fsdecode(file)
            if folder is not None:
                path = str(Path(f"/proc/self/fd/{folder}").readlink() / path)
            path = os.path.abspath(path)  # noqa: PTH100  links are not followed
        is_counted = path.startswith(f"{self.below}/") and self.spared not in path
        return path if is_counted else None


class _Raw(io.FileIO):
    """A file whose writes are counted; half of the one that is torn reaches the disk."""

    stop: Stop

    def write(self, data: Any, /) -> int:
        path = self.stop.covers(self.fileno())
        if path is not None:
            half = bytes(data)[: len(data) // 2]
            self.stop.reach("write", path, lambda: io.FileIO.write(self, half))
        return super().write(data)


def install(stop: Stop) -> None:
    """Have this process count and stop; there is no way back."""
    _install_open(stop)
    for name in ("mkdir", "unlink", "remove", "rmdir", "truncate"):
        _install_on_path(stop, name)
    for name in ("fsync", "ftruncate", "pwrite"):
        _install_on_descriptor(stop, name)
    for name in ("rename", "replace", "symlink"):
        _install_on_two(stop, name)
    real_open, real_send = os.open, os.sendfile

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        there = stop.covers(path, dir_fd) if flags & _WRITING else None
        if there is not None:
            stop.reach("open", there)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def send(out: int, given: int, offset: Any, count: int) -> int:
        there = stop.covers(out)
        if there is not None:
            half = os.fstat(given).st_size // 2
            stop.reach("sendfile", there, lambda: real_send(out, given, offset, half))
        return real_send(out, given, offset, count)

    os.open, os.sendfile = opened, send
    _install_native(stop)


def _install_open(stop: Stop) -> None:
    real = io.open

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        there = stop.covers(file) if set(mode) & set("wax+") else None
        if there is None:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            stop.reach("open", there)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd=closefd, opener=opener)
        raw.stop = stop
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    io.open = builtins.open = opened


def _install_on_path(stop: Stop, name: str) -> None:
    real = getattr(os, name)

    def call(path: Any, *rest: Any, dir_fd: int | None = None, **named: Any) -> Any:
        there = stop.covers(path, dir_fd)
        if there is not None:
            stop.reach(name, there)
        return real(path, *rest, **named, **({} if dir_fd is None else {"dir_fd": dir_fd}))

    setattr(os, name, call)


def _install_on_descriptor(stop: Stop, name: str) -> None:
    real = getattr(os, name)

    def call(descriptor: int, *rest: Any) -> Any:
        there = stop.covers(descriptor)
        if there is not None:
            stop.reach(name, there)
        return real(descriptor, *rest)

    setattr(os, name, call)


def _install_on_two(stop: Stop, name: str) -> None:
    real = getattr(os, name)

    def call(old: Any, new: Any, *rest: Any, **named: Any) -> Any:
        there = stop.covers(new)
        if there is not None:
            stop.reach(name, there)
        return real(old, new, *rest, **named)

    setattr(os, name, call)


def _install_native(stop: Stop) -> None:
    """Count whole files that safetensors and torch write; a torn one is half there."""
    import safetensors.torch as tensors
    import torch

    for module, name, place in ((tensors, "serialize_file", 1), (torch, "save", 1)):
        real = getattr(module, name)

        def call(*given: Any, real: Any = real, place: int = place, **named: Any) -> Any:
            target = given[place] if len(given) > place else named.get("filename", named.get("f"))
            there = stop.covers(target) if isinstance(target, str | os.PathLike) else None
            if there is not None:

                def torn() -> None:
                    real(*given, **named)
                    with Path(there).open("r+b") as stream:
                        stream.truncate(Path(there).stat().st_size // 2)

                stop.reach("native write", there, torn)
            return real(*given, **named)

        setattr(module, name, call)


def _as_native(path: str, code: int) -> Exception:
    """Return how safetensors or torch tells it."""
    from safetensors import SafetensorError

    if path.endswith(".safetensors"):
        said = f"{os.strerror(code)} (os error {code})"
        return SafetensorError(f"Error while serializing: I/O error: {said}")
    return RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 512")


def run_stopped(act: Callable[[], int], stop: Stop, log: Path) -> tuple[Ended, list[str]]:
    """Call `act` in a forked child with a stop; return how it ended and the operations seen.

    `act` returns the exit code. The operations are empty for a killed child.
    """
    seen = log.with_suffix(".seen")
    seen.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _act_and_leave(act, stop, log, seen)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    operations = seen.read_text().splitlines() if seen.exists() else []
    output = log.read_text(errors="replace")
    return Ended(None if code == -signal.SIGKILL else code, output, 0.0), operations


def _act_and_leave(act: Callable[[], int], stop: Stop, log: Path, seen: Path) -> None:
    code = 1
    try:
        stream = log.open("w", buffering=1)
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        kept = sys.stdout, sys.stderr  # closing the parent's would close 1 and 2
        sys.stdout = sys.stderr = stream
        install(stop)
        try:
            code = act()
        except BaseException:  # noqa: BLE001  a child must not run the parent's cases
            traceback.print_exc()
        stream.flush()
        stop.at = 0
        seen.write_text("\n".join(stop.seen))
        del kept
    finally:
        os._exit(code)
