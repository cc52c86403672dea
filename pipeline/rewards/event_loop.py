"""An event loop in a thread of its own, for reward functions and judges that are awaited.

In a thread, because the caller's own may have a loop that runs already (a notebook's), and because
what is awaited runs there while plain functions and reward models are busy here. One for the
process: a client that a reward function keeps open belongs to the loop that it was opened in.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import Future, wait
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from eval.model import StopRequested

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOOK_S = 0.2  # between two looks at whether to stop
_PATIENCE_S = 5.0  # for tasks that are cancelled at the end


def start(awaitable: Awaitable[Any]) -> Future[tuple[Any, BaseException | None]]:
    """Begin to await something, and return at once.

    The result is (what it gives, None), or (None, what it raises): raised inside of the loop, a
    KeyboardInterrupt or SystemExit would end the loop, and the caller would wait forever.
    """
    return asyncio.run_coroutine_threadsafe(_outcome(awaitable), _loop())


def run(awaitable: Awaitable[Any], should_stop: Callable[[], bool] = lambda: False) -> Any:
    """Await something to its end. Raises what it raises; StopRequested once it is to stop."""
    future = start(awaitable)
    while True:
        wait([future], timeout=_LOOK_S)
        if future.done():
            value, error = future.result()
            if error is not None:
                raise error
            return value
        if should_stop():
            future.cancel()
            raise StopRequested


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001  raised again where it is waited for
        return None, error


@cache
def _loop() -> asyncio.AbstractEventLoop:
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_run, args=(begun,), name="reward functions", daemon=True)
    thread.start()
    loop, stop = begun.result()

    def end() -> None:
        if thread.is_alive():  # not in a forked process
            loop.call_soon_threadsafe(stop.set)
            thread.join(_PATIENCE_S)

    atexit.register(end)
    return loop


os.register_at_fork(after_in_child=_loop.cache_clear)  # the thread is not there


def _run(begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def until_stopped() -> None:
        stop = asyncio.Event()
        begun.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    # A thread begins with gradients on, whatever is set in the one that calls.
    with torch.no_grad(), asyncio.Runner() as runner:
        runner.run(until_stopped())
