"""Values as a message names them: short, on one line, safe to print."""

from __future__ import annotations

from typing import Any


def name_kind(value: Any) -> str:
    """Name what a value is, with its article."""
    if value is None:
        return "empty"
    if isinstance(value, bool | str):
        return "text" if isinstance(value, str) else "true or false"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    return "a number"


def shorten(text: str) -> str:
    """Return text fit for a message: short, and nothing in it that a terminal would act on."""
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)


def quote(value: Any) -> str:
    """Return a value as an error names it: short, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return shorten(repr(value))
    if isinstance(value, str):
        return f"`{shorten(value)}`" if value else "an empty text"
    return name_kind(value)
