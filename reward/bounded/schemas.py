"""Does a JSON value follow a JSON Schema? Runs in the process that grades; the rest is jsonschema.

Nothing is fetched: a schema refers to itself and to the drafts of JSON Schema only.
"""

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

_PROBES: tuple[Any, ...] = (None, {}, [], "", 0)


def problem_of_response(schema: str, value: str) -> str:
    """Return what is wrong with a JSON text, "" if nothing is."""
    try:
        instance = json.loads(value, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        return "the JSON is nested too deeply"
    except ValueError as error:
        return f"it is no JSON: {error}"
    try:
        error = next(_validator(schema).iter_errors(instance), None)
    except OverflowError:
        return "it holds a number that is too large"
    return "" if error is None else f"{error.json_path}: {error.message[:160]}"


def problem_of(schema: str) -> str:
    """Return why a text is no JSON Schema that can be checked here, "" if it is one."""
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        content = json.loads(schema)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    if not isinstance(content, dict | bool):
        return "a schema is a mapping, or true or false"
    kind = _kind(cast("dict[str, Any] | bool", content))
    if kind is None:
        return "`$schema` is no draft that is known"
    try:
        kind.check_schema(content, format_checker=kind.FORMAT_CHECKER)
    except SchemaError as error:
        return f"{error.json_path}: {error.message[:160]}"
    resolver = _validator(schema)._resolver  # it has no public name
    for keyword, value in _keywords(content):
        if keyword == "format" and value not in kind.FORMAT_CHECKER.checkers:
            return f"`format: {value}` is not checked here; take it out, or write a `pattern`"
        if keyword == "$ref" and not _has_ids(content):
            try:
                resolver.lookup(value)
            except Unresolvable:
                return f"`$ref: {value}` is not in the schema, and nothing is fetched"
    for value in _PROBES:
        try:
            next(_validator(schema).iter_errors(value), None)
        except (RecursionError, Unresolvable) as error:
            return f"it refers to itself without an end: {type(error).__name__}"
    return ""


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema_specifications import REGISTRY  # pyright: ignore[reportMissingTypeStubs]

    content = json.loads(schema)
    kind = _kind(content)
    return kind(content, registry=REGISTRY, format_checker=kind.FORMAT_CHECKER)


def _kind(schema: dict[str, Any] | bool) -> Any:
    """Return the class of validators for the draft that a schema names; None for one unknown."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    is_named = isinstance(schema, dict) and "$schema" in schema
    return validator_for(schema, default=None) if is_named else Draft202012Validator  # pyright: ignore[reportArgumentType, reportCallIssue]


def _keywords(schema: Any) -> Iterator[tuple[str, str]]:
    """Yield every key with a text, at any depth: some are names of properties."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            for key, value in cast("dict[str, Any]", each).items():
                if isinstance(value, str):
                    yield key, value
                elif key not in ("const", "enum", "default", "examples"):
                    waiting.append(value)
        elif isinstance(each, list):
            waiting += cast("list[Any]", each)


def _has_ids(schema: Any) -> bool:
    return any(keyword in ("$id", "id") for keyword, _ in _keywords(schema))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value
