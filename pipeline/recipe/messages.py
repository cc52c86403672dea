"""What pydantic finds wrong with a recipe, in a user's words, at its place in the file.

Knows pydantic's error types, but not what the keys mean: sentences of our validators pass through
unchanged, and one that begins with a key in backticks points at that key.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.field_types import PATTERN_WORDS
from pipeline.errors import PosttrainError, closest
from pipeline.recipe.yaml.document import Document
from pipeline.text.values import quote, shorten

Location = tuple[str | int, ...]

_WANTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_LEADING_KEY = re.compile(r"`([a-z_][a-z0-9_]*)`")
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*")


def first_error(
    error: ValidationError,
    model: type[BaseModel],
    location: Location,
    document: Document,
    *,
    elsewhere: Callable[[str], str] = lambda key: "",
) -> PosttrainError:
    """Return the first error in the file.

    location: of the block that was validated. elsewhere: returns where to write a key that the
    block does not know, as far as the caller knows.
    """
    details = error.errors(include_url=False)
    unknown = {detail["loc"][:-1] for detail in details if detail["type"] == "extra_forbidden"}
    errors: list[tuple[tuple[int, int], PosttrainError]] = []
    for detail in _keep_type_meant(details, _value_at(document.value, location)):
        is_key = detail["type"] == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)
        if detail["type"] == "missing" and detail["loc"][:-1] in unknown:
            continue  # the key is there, but misspelt
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts only the valid items
        message, hint = _explain(detail, model, (*location, *detail["loc"]), document, elsewhere)
        place = (*location, *detail["loc"])
        if detail["type"] == "missing":
            place = place[:-1]
        elif (named := _LEADING_KEY.match(message)) and named[1] != _last(place, document):
            place = (*place, named[1])
        position = document.position(place, key=is_key)
        where = document.where(place, key=is_key)
        errors.append((position, PosttrainError(where, message, hint)))
    return min(errors, key=lambda pair: pair[0])[1]


def keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys that the block at a location takes, as far as types tell."""
    blocks: list[type[BaseModel]] = [model]
    for part in location:
        inner = [
            block_type
            for block in blocks
            for name, field in block.model_fields.items()
            if part in (name, field.alias)
            for block_type in _blocks_in(field.annotation)
        ]
        blocks = inner or blocks
    names = [field.alias or name for block in blocks for name, field in block.model_fields.items()]
    return list(dict.fromkeys(names))


def _blocks_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for part in get_args(annotation) for block in _blocks_in(part)]


def _keep_type_meant(details: Sequence[ErrorDetails], value: Any) -> list[ErrorDetails]:
    """Drop the errors of union members that do not even have the type of the value.

    If no member has its type, one error remains, which names the types of all members.
    """
    alternatives: dict[Location, list[ErrorDetails]] = {}
    meant = set[Location]()
    kept: list[ErrorDetails] = []
    for detail in details:
        *outer, last = detail["loc"] or ("",)
        written = tuple(_location_in_file(detail["loc"], value))
        is_tag = isinstance(last, str) and written == tuple(_location_in_file(outer, value))
        if is_tag and detail["type"] in _WANTED:
            alternatives.setdefault(written, []).append(detail)
        else:
            kept.append(detail)
            meant.update(written[:length] for length in range(len(written) + 1))
    for written, others in alternatives.items():
        if written not in meant:
            expected = " or ".join(dict.fromkeys(_WANTED[one["type"]] for one in others))
            kept.append({**others[0], "ctx": {"wanted": expected}})
    return kept


def _location_in_file(location: Sequence[str | int], value: Any) -> list[str | int]:
    """Return the parts of pydantic's location that are in the file, without its names of types."""
    place: list[str | int] = []
    for part in location:
        if _has(value, part):
            value = value[part]
            place.append(part)
    return place


def _last(place: Location, document: Document) -> str:
    """Return the last key of a location that is in the file."""
    names = [part for part in _location_in_file(place, document.value) if isinstance(part, str)]
    return names[-1] if names else ""


def _value_at(value: Any, location: Location) -> Any:
    for part in location:
        value = value[part]
    return value


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and 0 <= part < len(cast("list[Any]", value))
    return isinstance(value, dict) and part in value


def _explain(
    detail: ErrorDetails,
    model: type[BaseModel],
    place: Location,
    document: Document,
    elsewhere: Callable[[str], str],
) -> tuple[str, str]:
    """Return what is wrong and what to do."""
    error, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    key = _last(place, document)
    if error == "extra_forbidden":
        return _unknown(str(detail["loc"][-1]), keys_at(model, detail["loc"][:-1]), elsewhere)
    if error == "missing":
        owner = f"`{key}`" if key else "the recipe"
        return f"`{detail['loc'][-1]}:` is missing in {owner}", "write it"
    if error in _WANTED:
        expected_words = str(context.get("wanted", _WANTED[error]))
        return f"`{key}` is {quote(value)}, not {expected_words}", _repair(
            value, expected_words, model, detail
        )
    if error in _BOUNDS:
        bound, name = _BOUNDS[error]
        return f"`{key}` is {quote(value)}", f"it must be {bound} {context[name]:g}"
    if error == "literal_error":
        expected = str(context["expected"]).replace("'", "`")
        return f"`{key}` is {quote(value)}, not {expected}", (
            closest(str(value), re.findall(r"`([^`]+)`", expected)) or "write one of these"
        )
    if error == "string_pattern_mismatch":
        owner = "a name" if detail["loc"][-1] == "[key]" else f"`{key}`"
        return f"{quote(value)} cannot be {owner}", PATTERN_WORDS[str(context["pattern"])]
    if error in ("too_short", "string_too_short"):
        what = "a value" if error == "string_too_short" else "at least one"
        return f"`{key}` is empty", f"write {what}"
    if error == "string_too_long":
        message = f"`{key}` has {len(str(value)):,} characters"
        return message, f"it must have at most {context['max_length']}"
    if error == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        is_placed = not key or f"`{key}`" in message or _LEADING_KEY.match(message) is not None
        return message if is_placed else f"`{key}`: {message}", ""
    complaint = detail["msg"]
    return f"`{key}`: {complaint[:1].lower()}{complaint[1:]}", ""


def _unknown(key: str, known: Sequence[str], elsewhere: Callable[[str], str]) -> tuple[str, str]:
    hint = closest(key, known) or elsewhere(key) or f"there are {', '.join(known)}"
    return f"unknown key `{shorten(key)}`", hint


def _repair(value: Any, expected: str, model: type[BaseModel], detail: ErrorDetails) -> str:
    """Return what to do about a value of a wrong type."""
    if value is None:
        return "write a value, or leave the key out"
    if "a mapping" in expected:
        known = keys_at(model, detail["loc"])
        is_block = detail["type"] == "model_type"
        return f"its keys are {', '.join(known)}" if is_block else "write `key: value` below it"
    if "number" in expected and isinstance(value, str) and _NUMBER.fullmatch(value):
        return "write it without quotes"
    if expected == "text" and isinstance(value, bool | int | float):
        return "quote it"
    return f"write {expected}"
