"""Plain Python values as JSON that keeps their exact types: what crosses the wall of a box.

None, bool, int, float, str and list stand for themselves, any other value is an object with one
key, its tag: `{"tuple": [1, 2]}`, `{"dict": [["a", 1]]}`, `{"set": []}`. An instance of a subclass
is written as the builtin value in it, read at C level: what an overridden `__eq__` or `__iter__`
says never counts. Not pickle: nothing here calls code of the value or of the text.
"""

import builtins
import json
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

# Multiples of 2**61 - 1 have the same hash: 10,000 of them take seconds to be put in a set.
_MAX_SAME_HASH = 50
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_ITEMS = cast("Any", dict).items


def dumps(value: object, refer: Callable[[object], dict[str, Any]] | None = None) -> str:
    """Return the value as JSON text.

    refer: names a value that is not plain, in a form that `resolve` of `loads` understands.
    Raises TypeError for such a value without it, RecursionError for one without end, ValueError for
    an integer of more than 4300 digits, which Python does not write.
    """
    return json.dumps(encode(value, refer or not_plain))


def loads(text: str | bytes, resolve: Callable[[dict[str, Any]], object] | None = None) -> Any:
    """Return the value that `dumps` wrote. Raises ValueError for any other text."""
    try:
        return decode(json.loads(text), resolve or unknown)
    except (TypeError, RecursionError, LookupError) as error:
        raise ValueError(f"no plain value: {error}") from error


def encode(value: object, refer: Callable[[object], dict[str, Any]]) -> Any:
    """Return the value as what json writes. The C methods of the builtin types do the reading."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        pairs = _ITEMS(value)
        return {"dict": [[encode(key, refer), encode(held, refer)] for key, held in pairs]}
    for kind in _SEQUENCES:
        if isinstance(value, kind):
            items = [encode(item, refer) for item in kind.__iter__(value)]
            return items if kind is list else {kind.__name__: items}
    if isinstance(value, complex):
        number = complex.__add__(value, 0j)
        return {"complex": [number.real, number.imag]}
    if isinstance(value, bytes):
        return {"bytes": bytes.hex(value)}
    if isinstance(value, bytearray):
        return {"bytearray": bytearray.hex(value)}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, type) and vars(builtins).get(value.__name__) is value:
        return {"type": value.__name__}
    return refer(value)


def decode(data: Any, resolve: Callable[[dict[str, Any]], object]) -> Any:
    """Return the value that `encode` wrote; an object with another key goes to `resolve`.

    Raises ValueError, TypeError, LookupError or RecursionError for what `encode` did not write.
    """
    if isinstance(data, list):
        return [decode(item, resolve) for item in cast("list[Any]", data)]
    if not isinstance(data, dict):
        return data
    match cast("dict[str, Any]", data):
        case {"dict": pairs}:
            keys = _hashed([decode(key, resolve) for key, _ in pairs])
            return dict(zip(keys, (decode(held, resolve) for _, held in pairs), strict=True))
        case {"tuple": items}:
            return tuple(decode(items, resolve))
        case {"set": items}:
            return set(_hashed(decode(items, resolve)))
        case {"frozenset": items}:
            return frozenset(_hashed(decode(items, resolve)))
        case {"deque": items}:
            return deque(decode(items, resolve))
        case {"complex": [real, imaginary]}:
            return complex(real, imaginary)
        case {"bytes": digits}:
            return bytes.fromhex(digits)
        case {"bytearray": digits}:
            return bytearray.fromhex(digits)
        case {"range": [start, stop, step]}:
            return range(start, stop, step)
        case {"type": name} if isinstance(vars(builtins).get(name), type):
            return vars(builtins)[name]
        case other:
            return resolve(other)


def _hashed(items: list[Any]) -> list[Any]:
    if items and max(Counter(map(hash, items)).values()) > _MAX_SAME_HASH:
        raise ValueError("hashes that collide")
    return items


def not_plain(value: object) -> dict[str, Any]:
    """Refuse a value: the `refer` of those who want plain values only."""
    raise TypeError(f"{type(value).__name__} is no plain value")


def unknown(data: dict[str, Any]) -> object:
    """Refuse a reference: the `resolve` of those who want plain values only."""
    match data:
        case {"object": [_, str(name)]}:
            raise ValueError(f"it holds a {name}")
        case _:
            raise ValueError(f"unknown tag {sorted(data)}")
