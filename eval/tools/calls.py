"""Calls of tools, read out of what a model wrote in one turn.

How calls are written belongs to the chat template. A template may say so itself, in a comment that
this module reads (`marked_format`); which format a published template has is decided in
pipeline/tools/formats.py. Runs nothing: a call that cannot be read is a call with a `problem`,
which becomes the tool's answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CALL_CHARACTERS = 20_000
_SHOWN = 60  # characters of what could not be read

_MARKER = re.compile(r"\{#-?\s*posttrain:\s*tool_calls=(\w+)\s*-?#\}")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_JSON_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_SYSTEM = "<|system|>"
_HEAD = re.compile(r"\s*([\w.-]+)\(\s*")
_KEY = re.compile(r"(\w+)\s*=\s*")
_NEXT = re.compile(r"\s*(,\s*|\)\s*(?=<\|[^|<>\s]+\|>|\Z))")


@dataclass(frozen=True)
class Call:
    """A call as a model wrote it.

    problem: why it cannot be run, for the model to read; "" if it can.
    """

    name: str
    arguments: Mapping[str, Any]
    problem: str = ""


class CallFormat(Protocol):
    """How a chat template writes calls."""

    def read(self, text: str) -> list[Call]:
        """Return the calls in a turn that has ended; control tokens stand in the text as such.

        text: what the model wrote, behind what the generation prompt has of the turn.
        """
        ...

    def spoken(self, text: str) -> str:
        """Return what a turn says beside its calls."""
        ...


@dataclass(frozen=True)
class JsonCalls:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

    Also the format where a template does not say. opening: what the generation prompt writes of the
    turn: a thought may be open there. Nothing in a thought is a call.
    """

    opening: str = ""

    def read(self, text: str) -> list[Call]:
        """Return the calls of a turn."""
        spoken = without_thoughts(self.opening, text)
        return [read_json_call(found[1]) for found in _JSON_CALL.finditer(spoken)]

    def spoken(self, text: str) -> str:
        """Return what a turn says beside its calls, thoughts included."""
        return _JSON_CALL.sub("", text)


@dataclass(frozen=True)
class PythonCalls:
    """`<|system|>name(argument=value, ...)`, as the template of models made from nothing has it.

    Values are JSON. A call ends with the turn, or where the next begins.
    """

    def read(self, text: str) -> list[Call]:
        """Return the calls of a turn."""
        return [_read_python(written) for written in text.split(_SYSTEM)[1:]]

    def spoken(self, text: str) -> str:
        """Return what a turn says before its calls."""
        return text.partition(_SYSTEM)[0]


def marked_format(template: str) -> CallFormat | None:
    """Return the format that a template's own marker names; None without one.

    `{#- posttrain: tool_calls=python -#}` or `tool_calls=json`. Raises ValueError for another.
    """
    marker = _MARKER.search(template)
    if marker is None:
        return None
    if marker[1] == "python":
        return PythonCalls()
    if marker[1] == "json":
        return JsonCalls()
    raise ValueError(f"the chat template has tool calls of the form `{marker[1]}`; json, python")


def without_thoughts(opening: str, text: str) -> str:
    """Return what a model wrote in a turn outside of `<think>...</think>`; opening may open one."""
    _, thought, rest = opening.rpartition("<think>")
    is_thinking = bool(thought) and "</think>" not in rest
    return _THOUGHT.sub("", f"<think>{text}" if is_thinking else text)


def read_json_call(text: str) -> Call:
    """Return the call that a JSON object says."""
    if len(text) > MAX_CALL_CHARACTERS:
        return Call("", {}, f"the call has {len(text)} characters, more than {MAX_CALL_CHARACTERS}")
    try:
        written = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return Call("", {}, f"the call is no JSON ({reason}): {_shown(text)}")
    return call_of(written)


def call_of(written: Any) -> Call:
    """Return the call that an object `{"name": ..., "arguments": {...}}` means."""
    function = written.get("function", written) if isinstance(written, dict) else written
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        return Call("", {}, 'a call is {"name": ..., "arguments": {...}}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # JSON text, as the interface of OpenAI has it
        try:
            arguments = json.loads(arguments, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return Call(name, {}, "`arguments` is no JSON object")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return Call(name, {}, "`arguments` is no JSON object")
    return Call(name, arguments)


def _read_python(text: str) -> Call:
    if len(text) > MAX_CALL_CHARACTERS:
        return Call("", {}, f"the call has {len(text)} characters, more than {MAX_CALL_CHARACTERS}")
    head = _HEAD.match(text)
    if head is None:
        return Call("", {}, f"a call is name(argument=value), not: {_shown(text)}")
    name, at, arguments = head[1], head.end(), dict[str, Any]()
    is_open = not text.startswith(")", at)
    while is_open:
        key = _KEY.match(text, at)
        if key is None or key[1] in arguments:
            return Call(name, {}, f"a call is name(argument=value), not: {_shown(text)}")
        try:
            arguments[key[1]], at = _VALUES.raw_decode(text, key.end())
        except (ValueError, RecursionError):
            return Call(name, {}, f"the value of {key[1]} is no JSON: {_shown(text)}")
        end = _NEXT.match(text, at)
        if end is None:
            return Call(name, {}, f"a call is name(argument=value), not: {_shown(text)}")
        at, is_open = end.end(), end[1][0] == ","
    return Call(name, arguments)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_VALUES = json.JSONDecoder(parse_constant=_refuse_constant)


def _shown(text: str) -> str:
    line = " ".join(text[: 4 * _SHOWN].split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
