"""A call in a process of its own, which is ended when it takes too long or nobody waits for it.

For reading a conversation: its chat template is foreign code, and an alarm
(data/encoding/time_limit.py) is heeded in the main thread alone and between two steps of Python
alone. A process can always be ended. The child is a fork: it has the tokenizer already and costs
milliseconds.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.data.encoding.time_limit import TooSlowError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_LOOK_S = 0.02  # how often it is asked whether somebody still waits
T = TypeVar("T")


class GivenUpError(Exception):
    """Nobody waits for the result any more."""


def nobody_gives_up() -> bool:
    """Return False: the caller waits until the end."""
    return False


def call_apart(
    call: Callable[[], T], *, limit_s: float, is_given_up: Callable[[], bool] = nobody_gives_up
) -> T:
    """Return what a call returns, or raise what it raises; both must be picklable.

    Raises TooSlowError after limit_s (or when the kernel ended it), GivenUpError as soon as
    `is_given_up` says so. Either way nothing of the call keeps running.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(call, there, limit_s), daemon=True)
    child.start()
    there.close()
    deadline_s = time.monotonic() + limit_s
    try:
        while not here.poll(_LOOK_S):
            if is_given_up():
                raise GivenUpError
            if time.monotonic() > deadline_s:
                raise TooSlowError
        is_result, result = here.recv()
    except EOFError as error:
        raise TooSlowError from error
    finally:
        child.kill()
        child.join()
        child.close()
        here.close()
    if not is_result:
        raise result
    return result


def _answer(call: Callable[[], Any], there: Connection, limit_s: float) -> None:
    """In the child: send (whether it is a result, the result or the error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Should the parent be killed meanwhile, the kernel ends what is endless.
    processor_s = math.ceil(limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s))
    # The parent's sockets: what it closes must be closed.
    os.closerange(3, there.fileno())
    os.closerange(there.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    try:
        outcome = (True, call())
    except Exception as error:  # noqa: BLE001  the parent raises it
        outcome = (False, error)
    there.send(outcome)
