"""The command line in a process that has imported neither torch nor anything that needs it.

One clean process is started for each process of the page; it forks for each command, which costs
milliseconds where a start of Python costs a second, and which a command that hangs, asks for all
memory or dies cannot harm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

HEAVY = ("torch", "transformers", "trl", "peft", "datasets")
_MEMORY_BYTES = 4 * 10**9  # of address space: far above what a plan takes, below what harms


@dataclass(frozen=True)
class Answered:
    """How a command ended; code: None where it was stopped after the limit.

    seconds: by the clock; processor_s: of the processor. imported: which of HEAVY it imported.
    largest_bytes: the most memory that it held.
    """

    code: int | None
    output: str
    errors: str
    seconds: float
    processor_s: float
    largest_bytes: int
    imported: tuple[str, ...]


def posttrain(*arguments: str, folder: Path, limit_s: float = 60.0) -> Answered:
    """Run `posttrain ARGUMENTS` in a folder."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    asked = {"arguments": arguments, "folder": str(folder), "limit_s": limit_s}
    server.stdin.write(json.dumps(asked).encode() + b"\n")
    server.stdin.flush()
    answered = json.loads(server.stdout.readline())
    return Answered(**{**answered, "imported": tuple(answered["imported"])})


@cache
def _server() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __name__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )

    def end() -> None:
        server.kill()  # processes that were forked later hold its input open
        server.wait()

    Finalize(None, end, exitpriority=10)
    return server


def _serve() -> None:
    """Answer commands, one JSON line each, until there are no more."""
    # What each command begins with; reading upstream's source is most of what a plan takes.
    from pipeline.cli import app  # noqa: F401
    from pipeline.config.trainer_fields import architecture_annotations, fields

    for name in ("TrainingArguments", "SFTConfig", "DPOConfig", "PPOConfig", "LoraConfig"):
        fields(name)
    architecture_annotations("llama")

    for line in sys.stdin.buffer:
        asked = json.loads(line)
        with tempfile.TemporaryDirectory(prefix="posttrain-answer-") as folder:
            answered = _forked(asked, Path(folder))
        sys.stdout.buffer.write(json.dumps(answered).encode() + b"\n")
        sys.stdout.buffer.flush()


def _forked(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_and_leave(asked, folder)
    code, spent = None, None
    deadline_s = started_s + asked["limit_s"]
    while spent is None:
        waited, status, used = os.wait4(child, os.WNOHANG)
        if waited:
            code, spent = os.waitstatus_to_exitcode(status), used
        elif time.monotonic() > deadline_s:
            os.kill(child, signal.SIGKILL)
            spent = os.wait4(child, 0)[2]
        else:
            time.sleep(0.001)
    imported = folder / "imported"
    return {
        "code": code,
        "output": (folder / "out").read_text(errors="replace"),
        "errors": (folder / "err").read_text(errors="replace"),
        "seconds": time.monotonic() - started_s,
        "processor_s": spent.ru_utime + spent.ru_stime,
        "largest_bytes": spent.ru_maxrss * 1024,
        "imported": json.loads(imported.read_text()) if imported.exists() else [],
    }


def _run_and_leave(asked: dict[str, Any], folder: Path) -> None:
    """In the child: run the command as a process of its own would, leave without our clean-up."""
    import resource

    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.chdir(asked["folder"])
    sys.argv = ["posttrain", *asked["arguments"]]
    from pipeline.cli import main

    code: Any = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001  shown, as Python itself would
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    found = [name for name in HEAVY if name in sys.modules]
    (folder / "imported").write_text(json.dumps(found))
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve()
