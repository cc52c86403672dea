"""Reads the dataclasses of a comparison back from JSON, strictly: as they were written, or not.

Not a schema language: the types of the fields are the schema, of the kinds that they have here.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def read_record(kind: type[Record], content: object) -> Record:
    """Return the dataclass that `dataclasses.asdict` made `content` of.

    Raises ValueError, with the place, for a field that is missing, of another type, or not ours.
    """
    return cast("Record", _record(kind, content, ""))


def _record(kind: Any, content: Any, place: str) -> Any:
    if not isinstance(content, Mapping):
        raise ValueError(f"{_named(place)} is not an object")  # noqa: TRY004  of a file's content
    values = cast("Mapping[str, Any]", content)
    types = _types(kind)
    required = [field.name for field in fields(kind) if field.default is MISSING]
    for name in required:
        if name not in values:
            raise ValueError(f"{_named(place)} has no `{name}`")
    for name in values:
        if name not in types:
            raise ValueError(f"{_named(place)} has a field `{name}`, which is not known")
    return kind(**{name: _value(types[name], values[name], f"{place}.{name}") for name in values})


def _value(kind: Any, value: Any, place: str) -> Any:
    """Return a value as a field of this type has it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _record(kind, value, place)
    if origin in (Union, UnionType):  # always `X | None`; of a Literal it is a Union
        inner = next(argument for argument in arguments if argument is not NoneType)
        return None if value is None else _value(inner, value, place)
    if origin is tuple and isinstance(value, list):
        values = cast("list[Any]", value)
        return tuple(_value(arguments[0], v, f"{place}.{n}") for n, v in enumerate(values))
    if origin is dict and isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {key: _value(arguments[1], v, f"{place}.{key}") for key, v in named.items()}
    if origin is Literal and value in arguments:
        return value
    # A whole number may stand where a float is meant; a bool is an int to Python, not to us.
    plain = (int, float) if kind is float else kind
    if origin is None and isinstance(value, plain) and isinstance(value, bool) == (kind is bool):
        return value
    raise ValueError(f"{_named(place)} is `{str(value)[:40]}`, which cannot be")


def _named(place: str) -> str:
    return f"`{place.removeprefix('.')}`" if place else "it"


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
