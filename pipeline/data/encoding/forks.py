"""Work divided among forked processes, with what comes of it in the order of the work.

A fork has the tokenizer and its caches at once, where a new process would load libraries for
seconds. What runs there must use no library whose threads did not come along (torch): encoding uses
none. Processes of a daemon may fork, which those of `multiprocessing` may not. Imports no torch.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

from pipeline.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    Work = Callable[[Any], tuple[Any, Any]]

Item = TypeVar("Item")
CAN_FORK = sys.platform == "linux"  # macOS's own libraries do not survive it
_AHEAD = 2  # items that a process has been given, so that it need not wait for the next one


def in_order(
    items: Iterable[Item], work: Callable[[Item], tuple[Any, Any]], processes: int
) -> Iterator[tuple[Any, bytes]]:
    """Yield what work makes of each item: something small, and bytes.

    An exception of the work is raised in its turn. Processes end with the iterator, or with this
    process, however that ends.
    """
    remaining = iter(items)
    with ExitStack() as stack:
        forks: list[_Fork] = []
        for _ in range(processes):
            forks.append(stack.enter_context(_fork(work, forks)))
        given: deque[_Fork] = deque()
        for fork in cycle(forks):
            if len(given) == _AHEAD * processes:
                yield given.popleft().take()
            try:
                item = next(remaining)
            except StopIteration:
                break
            fork.give(item)
            given.append(fork)
        for fork in given:
            yield fork.take()


@dataclass
class _Fork:
    """A process that works. slots: files for its bytes, in turn, since a pipe would be full."""

    pid: int
    tasks: IO[bytes]
    results: IO[bytes]
    slots: Sequence[IO[bytes]]
    num_taken: int = 0

    def give(self, item: Any) -> None:
        try:
            pickle.dump(item, self.tasks, pickle.HIGHEST_PROTOCOL)
            self.tasks.flush()
        except BrokenPipeError as error:
            raise _gone() from error

    def take(self) -> tuple[Any, bytes]:
        try:
            outcome, num_bytes = pickle.load(self.results)
        except EOFError as error:
            raise _gone() from error
        if isinstance(outcome, BaseException):
            raise outcome
        slot = self.slots[self.num_taken % _AHEAD]
        self.num_taken += 1
        return outcome, os.pread(slot.fileno(), num_bytes, 0)


@contextmanager
def _fork(work: Work, others: Sequence[_Fork]) -> Generator[_Fork]:
    with ExitStack() as stack:
        slots = [stack.enter_context(TemporaryFile()) for _ in range(_AHEAD)]
        (task_end, tasks_end), (results_end, result_end) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            for other in others:  # else they would not hear that this process's parent is gone
                os.close(other.tasks.fileno())
            os.close(tasks_end)
            os.close(results_end)
            _serve(work, task_end, result_end, slots)
        os.close(task_end)
        os.close(result_end)
        results = stack.enter_context(os.fdopen(results_end, "rb"))
        tasks = os.fdopen(tasks_end, "wb")
        try:
            yield _Fork(pid, tasks, results, slots)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            with suppress(BrokenPipeError):
                tasks.close()


def _serve(work: Work, task_end: int, result_end: int, slots: Sequence[IO[bytes]]) -> NoReturn:
    """In the fork: work until there are no more tasks, and leave without the parent's clean-up."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to all; the parent decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        with os.fdopen(task_end, "rb") as tasks, os.fdopen(result_end, "wb") as results:
            number = 0
            while True:
                outcome, content = _attempt(work, pickle.load(tasks))
                slot = slots[number % _AHEAD].fileno()
                os.ftruncate(slot, 0)
                view, at = memoryview(content).cast("B"), 0
                while at < len(view):
                    at += os.pwrite(slot, view[at:], at)
                results.write(pickle.dumps((outcome, len(view)), pickle.HIGHEST_PROTOCOL))
                results.flush()
                number += 1
    except (EOFError, BrokenPipeError):
        os._exit(0)
    finally:
        os._exit(1)


def _attempt(work: Work, item: Any) -> tuple[Any, Any]:
    try:
        return work(item)
    except Exception as error:  # noqa: BLE001  raised again in the parent
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001  some cannot be taken along
            return RuntimeError("".join(traceback.format_exception(error))), b""
        return error, b""


def _gone() -> InfrastructureError:
    hint = "most likely the machine ran out of memory; run again"
    return InfrastructureError("", "a process that encodes rows was killed", hint)
