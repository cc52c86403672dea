"""Columns of any row as text, and back: the very values, or not at all.

JSON for what JSON has. Tuples, bytes and times are told apart, since a reward function may be
handed them; of anything else (a picture, an object of a library) nothing is written. Imports no
torch.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = "\0"  # the key of an object that stands for what JSON has not
_PLAIN = (str, int, float, bool, type(None))
_READERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "bytes": b64decode,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}


class NotPlainError(ValueError):
    """A value that would not come back as it was."""


def to_text(value: Any) -> str:
    """Return a value as text; NotPlainError where it could not be read back."""
    return json.dumps(_marked(value))


def of_text(text: str) -> Any:
    """Return the value that `to_text` was given."""
    return json.loads(text, object_hook=_unmarked) if _MARK_IN_TEXT in text else json.loads(text)


_MARK_IN_TEXT = json.dumps(_MARK)


def _marked(value: Any) -> Any:
    kind = type(value)  # of a subclass something would be lost
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_marked(item) for item in value]
    if kind is dict:
        fields = cast("dict[Any, Any]", value)
        if _MARK in fields or not all(type(key) is str for key in fields):
            raise NotPlainError
        return {key: _marked(item) for key, item in fields.items()}
    if kind is tuple:
        return {_MARK: "tuple", "of": [_marked(item) for item in value]}
    if kind is bytes:
        return {_MARK: "bytes", "of": b64encode(value).decode()}
    is_of_a_zone = getattr(value, "tzinfo", None) is not None or getattr(value, "fold", 0)
    if kind in (datetime, date, time) and not is_of_a_zone:
        return {_MARK: kind.__name__, "of": value.isoformat()}
    raise NotPlainError


def _unmarked(fields: dict[str, Any]) -> Any:
    return _READERS[fields[_MARK]](fields["of"]) if _MARK in fields else fields
