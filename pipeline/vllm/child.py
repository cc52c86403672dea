"""A vLLM server as a process of our own: started on a folder, waited for, ended with its parent."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import weakref
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from pipeline.errors import InfrastructureError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WHERE = "rollout"
_MODULE = "vllm.entrypoints.openai.api_server"
_TO_END_S = 20.0
_LAST_CHARACTERS = 200
_EXCEPTION = re.compile(r"^(\([^)]*\) )?(\w+\.)*\w*(Error|Exception): ")  # as Python prints one
# Asks the kernel for SIGTERM where the parent dies (prctl, 1), then becomes the server. A server
# that is killed would leave its engine's processes behind.
_SHIM = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15) if sys.platform == 'linux' else 0; "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM may be told to be ready for
_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # else it takes no weights
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # what it serves lies in a folder
}


class Child:
    """A server on a port of this machine that no one else was told of. log: what it says."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        environment = {**os.environ, **_ENVIRONMENT}
        shim = [sys.executable, "-I", "-c", _SHIM, str(os.getpid()), *command]
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                shim,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for posttrain, which ends it in its own time
            )
        self.close = weakref.finalize(self, _end, self._process)

    def check(self) -> None:
        """Raise InfrastructureError if the server has ended."""
        code = self._process.poll()
        if code is None:
            return
        by = f"by signal {-code}" if code < 0 else f"with code {code}: {_last_words(self.log)}"
        message = f"the vLLM server has ended {by}"
        hint = f"{self.log} has what it said; run again to go on from the last checkpoint"
        raise InfrastructureError(_WHERE, message, hint)

    def wait(self, timeout_s: float) -> None:
        """Wait until it answers; raises InfrastructureError where it ends, or takes longer."""
        opener = build_opener(ProxyHandler({}))
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.check()
            try:
                with opener.open(f"{self.url}/health", timeout=5):
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        message = f"the vLLM server does not answer after {timeout_s:g} s"
        hint = f"{self.log} has what it said; `start_timeout_s` of `rollout` waits longer"
        raise InfrastructureError(_WHERE, message, hint)


def start(
    python: str | None,
    model: Path,
    log: Path,
    *,
    dtype: str,
    rank: int | None,
    room: int,
    options: Mapping[str, str | int | float | bool],
) -> Child:
    """Start a server of a model's folder. python: of vLLM's environment; None for this one.

    rank: of the adapters that it will be sent; None for none. room: tokens of a row, at most.
    """
    port = _free_port()
    settings = {
        **{"model": str(model), "served-model-name": "policy"},
        **{"host": "127.0.0.1", "port": port, "dtype": dtype},
        **{"logprobs-mode": "processed_logprobs", "generation-config": "vllm"},
        "max-model-len": room,
        **({} if rank is None else {"enable-lora": True, "max-lora-rank": _rank_of(rank)}),
        **options,
    }
    command = [python or sys.executable, "-m", _MODULE]
    for name, value in settings.items():
        if value is not False:
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return Child(command, port, log)


def problem_of(python: str | None) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) where no server could be started, or None.

    python: as `start` takes it, a path.
    """
    if python is None:
        if find_spec("vllm") is not None:
            return None
        hint = "write its `python:` (`vllm/bin/python`), or the `url:` of a server that runs"
        return "vLLM is not installed beside posttrain", hint
    if os.access(python, os.X_OK) and not os.path.isdir(python):  # noqa: PTH112
        return None
    return f"`{python}` is no program", "name the Python of the environment that has vLLM"


def check_startable(python: str | None) -> None:
    """Raise PosttrainError where no server could be started."""
    problem = problem_of(python)
    if problem:
        raise PosttrainError(_WHERE, *problem)


def _rank_of(rank: int) -> int:
    """Return the smallest rank that vLLM may be told which holds an adapter's."""
    return next((each for each in _RANKS if each >= rank), rank)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _last_words(log: Path) -> str:
    """Return the last line of a log that is an exception's, or its last one, shortened."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if _EXCEPTION.search(line)]
    said = [*lines, *errors[-1:]]
    return said[-1][-_LAST_CHARACTERS:] if said else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes of its engine: kindly, then not."""
    for how, patience_s in ((signal.SIGTERM, _TO_END_S), (signal.SIGKILL, _TO_END_S)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            process.poll()
            if not _is_alive(process.pid):
                return
            time.sleep(0.05)


def _is_alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
