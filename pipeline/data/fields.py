"""Fields of a row, checked: a text, a message, a list of turns; every fault named with its row.

Knows no forms (formats.py, preferences.py). Imports no torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pipeline.data.files import kind_of
from pipeline.data.records import Message, Role
from pipeline.errors import PosttrainError, closest

_DROP = "correct it, or drop the row"


@dataclass(frozen=True)
class MessageStyle:
    """How a source writes a message: its keys for role and content, its names of the roles."""

    keys: tuple[str, str]
    roles: Mapping[str, Role]


ROLE_CONTENT = MessageStyle(
    ("role", "content"), {"system": "system", "user": "user", "assistant": "assistant"}
)
FROM_VALUE = MessageStyle(
    ("from", "value"),
    {
        **{"system": "system", "human": "user", "gpt": "assistant"},
        **{"user": "user", "assistant": "assistant"},
    },
)


def text_of(value: Any, field: str, where: str, *, may_be_blank: bool = False) -> str:
    """A field that must be text that can be encoded, and not blank."""
    if not isinstance(value, str):
        raise PosttrainError(
            where, f"`{field}` is {kind_of(value)}, not text", "correct it, or drop the row"
        )
    if not may_be_blank and not value.strip():
        said = "only white space" if value else "empty"
        raise PosttrainError(where, f"`{field}` is {said}", "fill it or drop the row")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = f"`{field}` has half a character (a lone surrogate) at {error.start}"
            raise PosttrainError(where, message, "repair the text") from error
    return value


def turns_of(
    turns: Any, column: str, where: str, style: MessageStyle, *, may_end_blank: bool = False
) -> tuple[Message, ...]:
    """A field that must be a list of messages, not empty, with a system turn in front at most.

    may_end_blank: the last content may be blank.
    """
    if not isinstance(turns, list):
        hint = f"it is a list of {{{style.keys[0]}, {style.keys[1]}}}"
        raise PosttrainError(where, f"`{column}` is {kind_of(turns)}, not a list", hint)
    turns = cast("list[Any]", turns)
    if not turns:
        raise PosttrainError(where, f"`{column}` is an empty list", "drop the row")
    found = tuple(
        message_of(
            turn,
            f"{column}[{number}]",
            where,
            style,
            may_be_blank=may_end_blank and number == len(turns) - 1,
        )
        for number, turn in enumerate(turns)
    )
    systems = [number for number, each in enumerate(found) if each.role == "system"]
    if len(systems) > 1:
        raise PosttrainError(where, f"`{column}` has {len(systems)} system turns", "join them")
    if systems and systems[0] != 0:
        message = f"`{column}[{systems[0]}]` is a system turn"
        raise PosttrainError(where, message, "a system turn comes first")
    return found


def message_of(
    turn: Any, field: str, where: str, style: MessageStyle, *, may_be_blank: bool = False
) -> Message:
    """A field that must be one message; the content of a system turn may always be blank."""
    if not isinstance(turn, dict):
        raise PosttrainError(
            where, f"`{field}` is {kind_of(turn)}, not an object", "correct it, or drop the row"
        )
    turn = cast("dict[str, Any]", turn)
    for key in style.keys:
        if key not in turn:
            hint = closest(key, turn) or names_found("keys", turn)
            raise PosttrainError(where, f"`{field}` has no `{key}`", hint)
    if turn.get("tool_calls") or turn.get("function_call"):
        raise PosttrainError(where, f"`{field}` calls a tool", "tool calls are not supported")
    of_role, of_content = style.keys
    name = text_of(turn[of_role], f"{field}.{of_role}", where)
    if name not in style.roles:
        hint = closest(name, style.roles) or f"known roles: {', '.join(style.roles)}"
        raise PosttrainError(where, f"`{field}` has the unknown role `{name:.40}`", hint)
    role = style.roles[name]
    if role == "assistant" and (turn.get("weight") == 0 or turn.get("train") is False):
        message = f"`{field}` asks not to be trained on, and every turn of the assistant's is"
        hint = "end the row before it, or take the mark out to train on it too"
        raise PosttrainError(where, message, hint)
    may_be_blank = may_be_blank or role == "system"
    content = text_of(turn[of_content], f"{field}.{of_content}", where, may_be_blank=may_be_blank)
    return Message(role, content)


def names_found(what: str, names: Iterable[str]) -> str:
    """Return which columns (or keys) there are, for an error."""
    return f"{what} found: {', '.join(f'`{name}`' for name in names) or 'none'}"
