"""Runs the calls of many conversations at once: in threads, awaited, or here if they are quick.

Whatever a tool does, a call has an answer: what the tool returned, or an error in words for the
model. A function that does not end in time is answered for; its thread is told to stop, which
Python heeds between two of its own steps only, and left to itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.tools.tool import ArgumentError, ToolError, error_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Future

    from eval.tools.calls import Call
    from eval.tools.tool import CallError, Tool

    # Begins to await something elsewhere; the result is (value, None) or (None, what it raised).
    StartAsync = Callable[[Awaitable[Any]], Future[tuple[Any, BaseException | None]]]

_THREADS = 16
_MAX_SHOWN = 500  # characters of a call's arguments, in records


@dataclass(frozen=True)
class CallRecord:
    """One call and its answer.

    arguments: JSON, its beginning. answer: what the model reads. error: why it is no
    result, None where it is one. is_cut: whether `answer` is only the beginning of the result.
    seconds: that it took.
    """

    name: str
    arguments: str
    answer: str
    error: CallError | None = None
    is_cut: bool = False
    seconds: float = 0.0


class Toolbox:
    """The tools that a model may call.

    start_async: begins to await what an async tool returned; None where there are no such tools.
    """

    def __init__(self, tools: Sequence[Tool], start_async: StartAsync | None = None) -> None:
        self.tool_by_name = {tool.name: tool for tool in tools}
        if len(self.tool_by_name) < len(tools):
            raise ValueError("two tools have one name")
        if start_async is None and any(tool.is_async for tool in tools):
            raise ValueError("an async tool takes an event loop")
        self._start_async = start_async

    def run(self, calls: Sequence[Call]) -> list[CallRecord]:
        """Answer calls, in their order; those of all conversations together."""
        records: dict[int, CallRecord] = {}
        awaited: list[tuple[int, Tool, float, Future[tuple[Any, BaseException | None]]]] = []
        waiting: deque[tuple[int, _Thread]] = deque()
        for place, call in enumerate(calls):
            tool, arguments, problem = self._prepare(call)
            if tool is None or arguments is None:
                records[place] = _record(call, problem)
            elif tool.is_quick:
                began_s = time.perf_counter()
                outcome = _call(tool, arguments)
                records[place] = _record(call, outcome, tool, time.perf_counter() - began_s)
            elif tool.is_async:
                assert self._start_async is not None
                future = self._start_async(_await(tool, arguments))
                awaited.append((place, tool, time.perf_counter(), future))
            else:
                if len(waiting) == _THREADS:
                    first, thread = waiting.popleft()
                    records[first] = thread.record(calls[first])
                waiting.append((place, _Thread(tool, arguments)))
        for place, thread in waiting:
            records[place] = thread.record(calls[place])
        for place, tool, began_s, future in awaited:
            value, error = future.result()
            outcome = (value, error) if error is not None else value
            records[place] = _record(calls[place], outcome, tool, time.perf_counter() - began_s)
        return [records[place] for place in range(len(calls))]

    def _prepare(self, call: Call) -> tuple[Tool | None, dict[str, Any] | None, _Outcome]:
        """Return the tool and its arguments, or what is wrong with the call."""
        if call.problem:
            return None, None, (None, _Malformed(call.problem))
        tool = self.tool_by_name.get(call.name)
        if tool is None:
            known = ", ".join(self.tool_by_name)
            return None, None, (None, _Unknown(f"there is no tool {call.name[:40]}; {known}"))
        try:
            return tool, tool.bind(call), (None, None)
        except ArgumentError as error:
            return None, None, (None, error)


_Outcome = tuple[Any, BaseException | None]


class _Malformed(ToolError):
    """The call could not be read."""


class _Unknown(ToolError):
    """The call names no tool."""


class _Thread:
    """A call in a thread of its own, which does not keep the process from ending."""

    def __init__(self, tool: Tool, arguments: dict[str, Any]) -> None:
        self._tool = tool
        self._arguments = arguments
        self._outcome: _Outcome = (None, None)
        self._began_s = self._ended_s = time.perf_counter()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tool {tool.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        outcome = _call(self._tool, self._arguments)
        self._ended_s = time.perf_counter()
        self._outcome = outcome
        self._is_done.set()

    def record(self, call: Call) -> CallRecord:
        """Wait for the answer, as long as the tool may take."""
        limit_s = self._tool.timeout_s
        left_s = None if limit_s is None else self._began_s + limit_s - time.perf_counter()
        if not self._is_done.wait(None if left_s is None else max(left_s, 0)):
            self._stop()
            return _record(call, _late(self._tool), self._tool, self._tool.timeout_s or 0.0)
        return _record(call, self._outcome, self._tool, self._ended_s - self._began_s)

    def _stop(self) -> None:
        """Raise SystemExit in the thread, at its next step in Python: a loop there ends."""
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit)
            )


def _call(tool: Tool, arguments: dict[str, Any]) -> _Outcome:
    try:
        return tool.function(**arguments), None
    except Exception as error:  # noqa: BLE001  a tool may raise anything
        return None, error
    except SystemExit as error:  # of a tool that wants the program to end
        return None, error


async def _await(tool: Tool, arguments: dict[str, Any]) -> _Outcome:
    try:
        return await asyncio.wait_for(tool.function(**arguments), tool.timeout_s), None
    except TimeoutError:
        return _late(tool)
    except Exception as error:  # noqa: BLE001  a tool may raise anything
        return None, error
    except SystemExit as error:
        return None, error


def _late(tool: Tool) -> _Outcome:
    return None, TimeoutError(f"{tool.name} did not end within {tool.timeout_s:g} s")


def _record(
    call: Call, outcome: _Outcome, tool: Tool | None = None, seconds: float = 0.0
) -> CallRecord:
    shown = json.dumps(dict(call.arguments), ensure_ascii=False)
    shown = shown.encode("utf-8", "replace").decode()[:_MAX_SHOWN]
    name = call.name.encode("utf-8", "replace").decode()[:_MAX_SHOWN]
    value, error = outcome
    if error is None and tool is not None:
        try:
            answer, is_cut = tool.show(value)
            return CallRecord(name, shown, answer, None, is_cut, seconds)
        except Exception as problem:  # noqa: BLE001  the result's `__str__` is the tool's own
            error = problem
    assert error is not None
    line = error_line(error).encode("utf-8", "replace").decode()
    return CallRecord(name, shown, f"error: {line}", _kind(error), False, seconds)


def _kind(error: BaseException) -> CallError:
    match error:
        case _Malformed():
            return "malformed"
        case _Unknown():
            return "unknown"
        case ArgumentError():
            return "arguments"
        case TimeoutError():
            return "timeout"
        case _:
            return "raised"
