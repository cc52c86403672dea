"""Fields of a row, checked: a text, JSON written as a text; errors name the row.

Knows neither turns (messages.py) nor forms (formats.py, preferences.py). Imports no torch.
"""

import json
from collections.abc import Iterable
from typing import Any

from pipeline.data.reading.files import kind_of
from pipeline.errors import PosttrainError

DROP = "correct it, or drop the row"


def text_of(value: Any, field: str, where: str, *, may_be_blank: bool = False) -> str:
    """Return a field that must be text, encodable as UTF-8 and not blank."""
    if not isinstance(value, str):
        raise PosttrainError(where, f"`{field}` is {kind_of(value)}, not text", DROP)
    if not may_be_blank and not value.strip():
        content = "only white space" if value else "empty"
        raise PosttrainError(where, f"`{field}` is {content}", "fill it or drop the row")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = f"`{field}` has half a character (a lone surrogate) at {error.start}"
            raise PosttrainError(where, message, "repair the text") from error
    return value


def from_json(value: Any, field: str, where: str) -> Any:
    """Return a field that is JSON, or JSON written as a text, as published data often has tools."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        message = f"`{field}` is a text and no JSON ({error})"
        raise PosttrainError(where, message, "correct it, or take the column out") from error


def to_json(value: Any) -> str:
    """Return a value as JSON text, without escaping characters beyond ASCII."""
    return json.dumps(value, ensure_ascii=False)


def is_nothing(value: Any) -> bool:
    """Whether a field says nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def list_names(what: str, names: Iterable[str]) -> str:
    """Return which columns or keys (`what`) there are, for an error."""
    return f"{what} found: {', '.join(f'`{name}`' for name in names) or 'none'}"
