"""Fingerprints: canonical JSON of everything that decides a stage's result, hashed.

The payload is kept beside the result, so that two fingerprints can be explained: `explain` names
the first place where they differ. Values without a stable text form are refused rather than
guessed. What goes into a stage's payload is the subject of pipeline/plan/identity.py.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

SHORT = 16


def canonical(payload: Any) -> str:
    """Return the one JSON text of a payload: dicts with string keys, lists, plain values.

    Raises TypeError for anything else and ValueError for NaN and infinity.
    """
    _refuse_unstable(payload, "")
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint(payload: Any) -> str:
    """Return the hex sha256 of the payload's canonical JSON."""
    return hashlib.sha256(canonical(payload).encode()).hexdigest()


def explain(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line `key: old -> new` for each leaf in which two payloads differ."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    return [
        f"{key}: {_leaf_text(before, key)} -> {_leaf_text(after, key)}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def _leaf_text(leaves: Mapping[str, Any], key: str) -> str:
    if key not in leaves:
        return "(absent)"
    text = json.dumps(leaves[key])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _leaves(inner, f"{prefix}[{number}]")
    else:
        yield prefix, value


def _refuse_unstable(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(key, str):
                raise TypeError(f"{where or 'payload'}: key {key!r} is not a string")
            _refuse_unstable(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            _refuse_unstable(inner, f"{where}[{number}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'payload'}: {value} has no canonical form")
    elif not (value is None or isinstance(value, str | int | bool)):
        raise TypeError(f"{where or 'payload'}: {type(value).__name__} has no canonical form")
