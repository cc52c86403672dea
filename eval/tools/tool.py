"""A tool: a function that a model may call, what it takes, and its limits.

Binds a call's arguments and makes text of what comes back; toolbox.py runs many at once.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eval.tools.calls import Call

MAX_RESULT_CHARACTERS = 2_000
_MAX_REASON = 300

# Why a call has no result: it cannot be read, names no tool, does not fit the tool's arguments, the
# tool raised something, took too long, or the turn had more calls than are answered.
CallError = Literal["malformed", "unknown", "arguments", "raised", "timeout", "too many"]
CALL_ERRORS: tuple[CallError, ...] = (
    *("malformed", "unknown", "arguments"),
    *("raised", "timeout", "too many"),
)

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ToolError(Exception):
    """What a tool of ours says instead of a result, in words for the model."""


class ArgumentError(ToolError):
    """A call's arguments are not what the tool takes."""


@dataclass(frozen=True)
class Tool:
    """A tool by its name.

    schema: what a chat template shows of it, as transformers' `get_json_schema` makes it.
    function: called by keyword, in a thread unless `is_quick`; async or not. timeout_s: of a call,
    None for a function that keeps to limits of its own. is_quick: takes less than a millisecond.
    max_result_characters: what a model reads of a result.
    """

    name: str
    schema: Mapping[str, Any]
    function: Callable[..., Any]
    timeout_s: float | None = 5.0
    is_quick: bool = False
    max_result_characters: int = MAX_RESULT_CHARACTERS

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schemas of its arguments, by name."""
        return self.schema["function"]["parameters"]["properties"]

    @property
    def is_async(self) -> bool:
        """Whether a call is awaited."""
        call = getattr(self.function, "__call__", None)  # noqa: B004  its own, not whether it has one
        return any(inspect.iscoroutinefunction(callee) for callee in (self.function, call))

    def bind(self, call: Call) -> dict[str, Any]:
        """Return the arguments by name. Raises ArgumentError, in words for the model."""
        arguments = dict(call.arguments)
        parameters = self.parameters
        shown = ", ".join(parameters) or "nothing"
        for name, value in arguments.items():
            if name not in parameters:
                raise ArgumentError(f"{self.name} takes {shown}, not {name[:40]}")
            expected = parameters[name].get("type")
            if not _is_a(value, expected):
                raise ArgumentError(f"{name} of {self.name} is no {expected}")
        required = self.schema["function"]["parameters"].get("required", ())
        missing = [name for name in required if name not in arguments]
        if missing:
            raise ArgumentError(f"{self.name} takes {shown}; {missing[0]} is missing")
        return arguments

    def show(self, result: Any) -> tuple[str, bool]:
        """Return a result as text, and whether that is only its beginning."""
        text = result if isinstance(result, str) else _as_json(result)
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate is not text
        limit = self.max_result_characters
        if len(text) <= limit:
            return text, False
        return f"{text[:limit]}... (cut)", True


def make_tool(function: Callable[..., Any], **settings: Any) -> Tool:
    """Return a function as a tool; its name, arguments and docstring say what it is.

    settings: fields of Tool. Raises ValueError where annotations or descriptions are missing.
    """
    from transformers.utils.chat_template_utils import (
        DocstringParsingException,
        TypeHintParsingException,
        get_json_schema,
    )

    try:
        schema = get_json_schema(function)
    except (DocstringParsingException, TypeHintParsingException, NameError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return Tool(schema["function"]["name"], schema, function, **settings)


def error_line(error: BaseException) -> str:
    """Return what an exception says, in one line that is not long."""
    try:
        words = " ".join(str(error)[: 4 * _MAX_REASON].split())
    except Exception:  # noqa: BLE001  the exception's class is the tool's own
        words = ""
    kind = "" if isinstance(error, ToolError) else type(error).__name__
    return ": ".join(filter(None, (kind, words)))[:_MAX_REASON]


def _is_a(value: Any, expected: Any) -> bool:
    """Whether a value is of a type of JSON; of several, or of none that is known, anything is."""
    if not isinstance(expected, str) or expected not in _TYPES:
        return True
    if isinstance(value, bool):
        return expected == "boolean"
    return isinstance(value, _TYPES[expected])


def _as_json(result: Any) -> str:
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, a list in itself
        return str(result)
