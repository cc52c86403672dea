"""Turns of a conversation, read from a row: text, reasoning, calls of tools, tools' answers.

Knows two styles: OpenAI's {role, content} and ShareGPT's {from, value}. Every key with a known
meaning is used or refused. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pipeline.data.reading.fields import DROP, from_json, is_nothing, list_names, text_of, to_json
from pipeline.data.reading.files import kind_of
from pipeline.data.reading.records import Message, Role, ToolCall
from pipeline.errors import PosttrainError, closest

if TYPE_CHECKING:
    from collections.abc import Mapping

# ShareGPT's role for an assistant's turn that holds only a call, as JSON.
_CALL: Literal["call"] = "call"


@dataclass(frozen=True)
class MessageStyle:
    """How a source writes a message: its keys for role and content, and its names of roles."""

    keys: tuple[str, str]
    roles: Mapping[str, Role | Literal["call"]]


_TOOLS: Mapping[str, Role | Literal["call"]] = {
    **{"tool": "tool", "observation": "tool", "tool_response": "tool", "function": "tool"},
    **{"function_call": _CALL, "tool_call": _CALL},
}
ROLE_CONTENT = MessageStyle(
    ("role", "content"),
    {
        **{"system": "system", "user": "user", "assistant": "assistant"},
        "developer": "system",
        **_TOOLS,
    },
)
FROM_VALUE = MessageStyle(
    ("from", "value"),
    {
        **{"system": "system", "human": "user", "gpt": "assistant"},
        **{"user": "user", "assistant": "assistant"},
        **_TOOLS,
    },
)
_REASONING = ("reasoning_content", "reasoning", "thinking")
_TRAINED = ("weight", "train", "training", "loss")
# Keys of a message that mean something; the rest are named as not used (columns.py).
KNOWN_KEYS = frozenset(
    {
        *ROLE_CONTENT.keys,
        *FROM_VALUE.keys,
        *_REASONING,
        *_TRAINED,
        *("tool_calls", "function_call", "tool_call_id"),
    }
)
NAME = "name"  # has a meaning only beside a tool's answer


def turns_of(
    turns: Any, column: str, where: str, style: MessageStyle, *, may_end_blank: bool = False
) -> tuple[Message, ...]:
    """Return a field that must be a list of messages, not empty; a system turn must be the first.

    may_end_blank: the last content may be blank.
    """
    if not isinstance(turns, list):
        hint = f"it is a list of {{{style.keys[0]}, {style.keys[1]}}}"
        raise PosttrainError(where, f"`{column}` is {kind_of(turns)}, not a list", hint)
    turns = cast("list[Any]", turns)
    if not turns:
        raise PosttrainError(where, f"`{column}` is an empty list", "drop the row")
    messages = tuple(
        message_of(
            turn,
            f"{column}[{number}]",
            where,
            style,
            may_be_blank=may_end_blank and number == len(turns) - 1,
        )
        for number, turn in enumerate(turns)
    )
    systems = [number for number, message in enumerate(messages) if message.role == "system"]
    if len(systems) > 1:
        raise PosttrainError(where, f"`{column}` has {len(systems)} system turns", "join them")
    if systems and systems[0] != 0:
        message = f"`{column}[{systems[0]}]` is a system turn"
        raise PosttrainError(where, message, "a system turn comes first")
    return messages


def message_of(
    turn: Any, field: str, where: str, style: MessageStyle, *, may_be_blank: bool = False
) -> Message:
    """Return a field that must be one message.

    The content may always be blank in a system turn, in a tool's turn, and beside a call.
    """
    if not isinstance(turn, dict):
        raise PosttrainError(where, f"`{field}` is {kind_of(turn)}, not an object", DROP)
    turn = cast("dict[str, Any]", turn)
    of_role, of_content = style.keys
    calls = _calls(turn, field, where)
    for key in style.keys:
        if key not in turn and not (calls and key == of_content):
            hint = closest(key, turn) or list_names("keys", turn)
            raise PosttrainError(where, f"`{field}` has no `{key}`", hint)
    name = text_of(turn[of_role], f"{field}.{of_role}", where)
    if name not in style.roles:
        hint = closest(name, style.roles) or f"known roles: {', '.join(style.roles)}"
        raise PosttrainError(where, f"`{field}` has the unknown role `{name:.40}`", hint)
    role = style.roles[name]
    if role == _CALL:
        raw = from_json(turn[of_content], f"{field}.{of_content}", where)
        calls = _read_calls(raw if isinstance(raw, list) else [raw], field, where)
        return Message("assistant", "", calls=calls, is_trained=_is_trained(turn, field, where))
    if calls and role != "assistant":
        raise PosttrainError(where, f"`{field}` is a {role} turn that calls a tool", DROP)
    may_be_blank = may_be_blank or bool(calls) or role in ("system", "tool")
    value = _content(turn.get(of_content), f"{field}.{of_content}", where, may_be_none=bool(calls))
    content = text_of(value, f"{field}.{of_content}", where, may_be_blank=may_be_blank)
    if role == "tool":
        tool, call_id = (str(turn.get(key) or "") for key in (NAME, "tool_call_id"))
        return Message(role, content, name=tool, call_id=call_id)
    if role != "assistant":
        return Message(role, content)
    reasoning = _reasoning(turn, field, where)
    return Message(role, content, reasoning, calls, is_trained=_is_trained(turn, field, where))


def _content(value: Any, field: str, where: str, *, may_be_none: bool) -> Any:
    """Return the text of a content; a list of parts must hold texts only, which are joined."""
    if value is None and may_be_none:
        return ""
    if not isinstance(value, list):
        return value
    texts: list[str] = []
    for number, part in enumerate(cast("list[Any]", value)):
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):  # pyright: ignore[reportUnknownMemberType]
            kind = str(cast("dict[str, Any]", part).get("type")) if isinstance(part, dict) else ""
            message = f"`{field}[{number}]` is {f'of the type `{kind}`' if kind else 'no text'}"
            hint = "models are trained on text here; take the row out, or the part"
            raise PosttrainError(where, message, hint)
        texts.append(cast("dict[str, str]", part)["text"])
    return "".join(texts)


def _reasoning(turn: Mapping[str, Any], field: str, where: str) -> str:
    """Return the assistant's reasoning, under whichever of its names."""
    reasoning = {key: turn[key] for key in _REASONING if not is_nothing(turn.get(key))}
    texts = {text_of(value, f"{field}.{key}", where) for key, value in reasoning.items()}
    if len(texts) > 1:
        message = f"`{field}` has {' and '.join(f'`{key}`' for key in reasoning)}, and they differ"
        raise PosttrainError(where, message, "keep one of them")
    return next(iter(texts), "")


def _is_trained(turn: Mapping[str, Any], field: str, where: str) -> bool:
    """Whether an assistant's turn is to be learnt, under whichever name the data says so."""
    for key in _TRAINED:
        value = turn.get(key)
        if value is None:
            continue
        if value not in (0, 1):
            message = f"`{field}.{key}` is {value!r:.40}, and a turn is trained on or not"
            raise PosttrainError(where, message, "write 1 (true) or 0 (false)")
        if not value:
            return False
    return True


def _calls(turn: Mapping[str, Any], field: str, where: str) -> tuple[ToolCall, ...]:
    """Return the calls beside a content: OpenAI's `tool_calls`, or its earlier `function_call`."""
    for key in ("tool_calls", "function_call"):
        if is_nothing(turn.get(key)):
            continue
        calls = from_json(turn[key], f"{field}.{key}", where)
        calls = calls if isinstance(calls, list) else [calls]
        return _read_calls(cast("list[Any]", calls), f"{field}.{key}", where)
    return ()


def _read_calls(calls: list[Any], field: str, where: str) -> tuple[ToolCall, ...]:
    return tuple(_call(call, field, where) for call in calls)


def _call(value: Any, field: str, where: str) -> ToolCall:
    hint = "a call is {name, arguments}, alone or as `function`"
    if not isinstance(value, dict):
        raise PosttrainError(where, f"`{field}` is {kind_of(value)}, not a call", hint)
    outer = cast("dict[str, Any]", value)
    inner = outer.get("function") or outer
    if not isinstance(inner, dict):
        raise PosttrainError(where, f"`{field}.function` is {kind_of(inner)}, not an object", hint)
    call = cast("dict[str, Any]", inner)
    if NAME not in call:
        raise PosttrainError(where, f"`{field}` calls something without a `name`", hint)
    name = text_of(call[NAME], f"{field}.name", where)
    arguments: Any = call.get("arguments", call.get("parameters"))
    if arguments is None:
        arguments = {}
    is_text = isinstance(arguments, str)
    arguments = arguments if is_text else to_json(arguments)
    arguments = text_of(arguments, f"{field}.arguments", where, may_be_blank=True)
    return ToolCall(name, arguments or "{}", str(outer.get("id") or ""), is_text)
