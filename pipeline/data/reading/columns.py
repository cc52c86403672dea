"""Columns beside those of a form: used, refused with a reason, or named as not used.

A column that is dropped silently gives a wrong model that nobody notices: a system prompt, tools,
half a conversation. Imports no torch.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pipeline.data.reading.fields import from_json, is_nothing, text_of, to_json
from pipeline.data.reading.files import kind_of
from pipeline.data.reading.messages import KNOWN_KEYS, NAME
from pipeline.data.reading.records import ChatSettings, Message, ToolCall
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.config.field_types import DataForm
    from pipeline.data.reading.files import Row

SYSTEM, TOOLS, VARIABLES = "system", "tools", "chat_template_kwargs"
# What may stand beside any conversation.
OF_CHATS = (SYSTEM, TOOLS, VARIABLES)
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
# What says whether an answer was wanted: TRL's name, and LLaMA-Factory's.
LABELS = ("label", "kto_tag")
_TURNS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")


class NotUsed:
    """Columns of a source, and keys of its messages, that nothing reads in any row."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()

    def add(self, row: Row, used: Iterable[str]) -> None:
        """Take note of a row; used: its columns that something reads."""
        used = set(used)
        for name, value in row.fields.items():
            if is_nothing(value):
                continue
            if name not in used:
                self._names[name] += 1
            elif name in _TURNS and isinstance(value, list | dict):
                turns = [value] if isinstance(value, dict) else value
                for key in _unknown_keys(cast("list[Any]", turns)):
                    self._names[f"{name}[].{key}"] += 1

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in the order in which they turned up."""
        return tuple(self._names)


def name_unused(names: Iterable[str]) -> str:
    """Return what to write behind a source about columns that nothing reads; "" without any."""
    listed = ", ".join(names)
    return f"not used: {listed}" if listed else ""


def check_meaning(row: Row, form: DataForm) -> None:
    """Raise PosttrainError for a column with a meaning that nothing here can honour."""
    for name in _MEDIA:
        if not is_nothing(row.fields.get(name)):
            message = f"`{name}` is for models that see or hear, and text is what is trained on"
            hint = "take the column out if the text means the same without it, else the row"
            raise PosttrainError(row.where, message, hint)
    if form in ("chat", "prompt_completion"):
        for name in LABELS:
            if isinstance(row.fields.get(name), bool):
                message = f"`{name}` says whether a completion is wanted (KTO), and all are taught"
                hint = (
                    "`stage: kto` learns from both; or keep the rows where it is true, without it"
                )
                raise PosttrainError(row.where, message, hint)


def with_system(row: Row, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the column `system`, if the row has one, in front of a conversation."""
    value = row.fields.get(SYSTEM)
    if is_nothing(value):
        return messages
    system = text_of(value, SYSTEM, row.where, may_be_blank=True)
    if not system.strip():
        return messages
    if messages and messages[0].role == "system":
        if messages[0].content.strip() == system.strip():
            return messages
        message = "there is a column `system` and a system turn, and they differ"
        raise PosttrainError(row.where, message, "keep one of them")
    return (Message("system", system), *messages)


def settings_of(row: Row) -> ChatSettings:
    """Return what a row passes to a chat template beside turns: `tools`, `chat_template_kwargs`."""
    return ChatSettings(_tools(row), _variables(row))


def drop_filled_nulls(messages: tuple[Message, ...], settings: ChatSettings) -> tuple[Message, ...]:
    """Drop nulls from the arguments of calls, except where the tool takes a null.

    Arrow has one type for all calls in a file, and fills in the arguments of the rest, in what was
    once made of such a file too. It does not touch arguments that are JSON in a text.
    """
    if not any("null" in call.arguments for message in messages for call in message.calls):
        return messages
    tools: list[dict[str, Any]] = json.loads(settings.tools) if settings.tools else []
    declared = {tool["function"][NAME]: tool["function"].get("parameters") for tool in tools}
    return tuple(
        replace(message, calls=tuple(_drop_filled_nulls(call, declared) for call in message.calls))
        for message in messages
    )


def _drop_filled_nulls(call: ToolCall, declared: Mapping[str, Any]) -> ToolCall:
    if call.is_text or "null" not in call.arguments:
        return call
    arguments = json.loads(call.arguments)
    return replace(call, arguments=to_json(_without_filled(arguments, declared.get(call.name))))


def _without_filled(value: Any, schema: Any) -> Any:
    """Return a value without the nulls that its JSON schema has no place for."""
    schema = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    if isinstance(value, list):
        items = schema.get("items")
        return [_without_filled(inner, items) for inner in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties")
    known = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
    return {
        key: _without_filled(inner, known.get(key))
        for key, inner in cast("dict[str, Any]", value).items()
        if inner is not None or _takes_null(known.get(key))
    }


def _takes_null(schema: Any) -> bool:
    """Whether a declared argument may be null; one that is not declared may not."""
    if not isinstance(schema, dict):
        return False
    schema = cast("dict[str, Any]", schema)
    choices = (*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ()))
    if schema.get("nullable") or any(map(_takes_null, choices)):
        return True
    types = schema.get("type", [] if choices or "enum" in schema else "null")
    return "null" in (types if isinstance(types, list) else [types]) or None in (
        schema.get("enum") or ()
    )


def _tools(row: Row) -> str:
    value = row.fields.get(TOOLS)
    if is_nothing(value):
        return ""
    tools = from_json(value, TOOLS, row.where)
    if is_nothing(tools):
        return ""
    if not isinstance(tools, list):
        message = f"`{TOOLS}` is {kind_of(tools)}, not a list"
        raise PosttrainError(row.where, message, "it is a list of JSON schemas of functions")
    return to_json([_tool(tool, row.where) for tool in cast("list[Any]", tools)])


def _tool(value: Any, where: str) -> dict[str, Any]:
    """Return a tool as servers pass it to a template: {type: function, function: {name, ...}}."""
    value = from_json(value, TOOLS, where)
    if not isinstance(value, dict):
        message = f"`{TOOLS}` holds {kind_of(value)}, not an object"
        raise PosttrainError(where, message, "a tool is the JSON schema of a function")
    tool = cast("dict[str, Any]", _without_nulls(value))
    inner = tool.get("function", tool)
    if not isinstance(inner, dict) or not isinstance(inner.get(NAME), str):  # pyright: ignore[reportUnknownMemberType]
        message = f"`{TOOLS}` has a function without a `name`"
        raise PosttrainError(where, message, "a tool is {name, description, parameters}")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _without_nulls(value: Any) -> Any:
    """Return a value without null keys: Arrow fills in the keys of all objects in the file."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _without_nulls(inner) for key, inner in fields.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in cast("list[Any]", value)]
    return value


def _variables(row: Row) -> str:
    value = row.fields.get(VARIABLES)
    if is_nothing(value):
        return ""
    variables = from_json(value, VARIABLES, row.where)
    if not isinstance(variables, dict):
        message = f"`{VARIABLES}` is {kind_of(variables)}, not an object"
        raise PosttrainError(row.where, message, "it gives variables of the chat template values")
    named = cast("dict[str, Any]", _without_nulls(variables))
    return to_json(named) if named else ""


def _unknown_keys(turns: list[Any]) -> Iterable[str]:
    for turn in turns:
        if not isinstance(turn, dict):
            continue
        fields = cast("dict[str, Any]", turn)
        is_tool = fields.get("role", fields.get("from")) in ("tool", "observation", "tool_response")
        for key, value in fields.items():
            if key in KNOWN_KEYS or is_nothing(value) or (key == NAME and is_tool):
                continue
            yield key
