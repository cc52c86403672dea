"""The process that grades: reads a question, answers it, until its parent is gone.

Processor time is limited for each question, memory for all: SIGPROF interrupts what runs Python or
a pattern, SIGXCPU ends the process a second later where nothing can be interrupted.
"""

import json
import logging
import math
import os
import resource
import select
import signal
from collections.abc import Callable
from typing import Any

from reward.bounded.process import LENGTH

_MEMORY_BYTES = 2 << 30  # of addresses: Python and sympy have 300 MiB of them
_LOOKS_AFTER_S = 1.0


class _OutOfTimeError(BaseException):
    """No Exception: libraries catch those."""


def main() -> None:
    """Answer on a copy of standard output, which itself goes nowhere."""
    parent = os.getppid()
    replies = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGPROF, _interrupt)
    while (request := _receive(parent)) is not None:
        question, texts, cpu_s = json.loads(request)
        reply = json.dumps(_reply(_functions()[question], texts, cpu_s)).encode("ascii")
        _write(replies, LENGTH.pack(len(reply)) + reply)


def _functions() -> dict[str, Callable[..., Any]]:
    from reward.bounded import algebra, patterns, schemas

    return {
        "same_value": algebra.compare,
        "readable": algebra.is_readable,
        "found": patterns.find,
        "follows": schemas.problem_of_response,
        "schema": schemas.problem_of,
    }


def _reply(answer: Callable[..., Any], texts: list[str], cpu_s: float) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    end_s = math.ceil(used.ru_utime + used.ru_stime + cpu_s) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (end_s, hard))
    try:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            return {"answer": answer(*texts)}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _OutOfTimeError:
        return {"interrupted": f"it takes more than {cpu_s:g} s"}
    except MemoryError:
        return {"interrupted": f"it takes more than {_MEMORY_BYTES >> 30} GiB of memory"}
    except RecursionError:
        return {"failed": "it is nested too deeply"}
    except Exception as error:  # noqa: BLE001  whatever a library raises: there is no answer
        return {"failed": f"{type(error).__name__}: {str(error)[:200]}"}


def _interrupt(*_: object) -> None:
    raise _OutOfTimeError


def _limit(what: int, wanted: int) -> None:
    _, hard = resource.getrlimit(what)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (most, hard))


def _receive(parent: int) -> bytes | None:
    """Return a request; None once the parent is gone, though a fork of it may hold the pipe."""
    while not select.select([0], [], [], _LOOKS_AFTER_S)[0]:
        if os.getppid() != parent:
            return None
    head = _read(LENGTH.size)
    return None if head is None else _read(LENGTH.unpack(head)[0])


def _read(size: int) -> bytes | None:
    content = bytearray()
    while len(content) < size:
        part = os.read(0, size - len(content))
        if not part:
            return None
        content += part
    return bytes(content)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
