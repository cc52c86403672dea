"""Plain Python values as JSON that keeps their exact types: what crosses the wall of a box.

None, bool, int, float, str and list stand for themselves, any other value is an object with one
key, its tag: `{"tuple": [1, 2]}`, `{"dict": [["a", 1]]}`, `{"set": []}`. An instance of a subclass
is written as the builtin value in it, read at C level: what an overridden `__eq__` or `__iter__`
says never counts. Not pickle: nothing here calls code of the value or of the text.
"""

import builtins
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

# Parents recurse over what was decoded, too, from wherever in a trainer they are called.
MAX_DEPTH = 200
_CONTAINER_COST = 4  # an empty set takes as much memory as five numbers
_ELEMENTS_PER_LOOK = 10_000  # at the clock
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_KIND_BY_TAG: dict[str, Any] = {kind.__name__: kind for kind in _SEQUENCES[1:]}
_ITEMS = cast("Any", dict).items


class OverBudgetError(ValueError):
    """A text holds more than its reader wants to hold, or takes longer to read."""


class Budget:
    """What decoding may cost: elements, bytes of text, and time until `deadline_s` of the clock.

    An element takes 30 bytes or so. A comparison of elements that have the same hash costs as much
    as they hold: 10,000 multiples of 2**61 - 1 take seconds to be put in a set.
    """

    def __init__(
        self,
        elements: int = 2_000_000,
        size_bytes: int = 32 << 20,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deadline_s = math.inf
        self.spent = 0
        self._elements = elements
        self._bytes = size_bytes
        self._clock = clock
        self._next_look = 0

    def spend(self, elements: int) -> None:
        """Count elements. Raises OverBudgetError for too many, TimeoutError after the deadline."""
        self.spent += elements
        if self.spent > self._elements:
            raise OverBudgetError(f"more than {self._elements:,} elements or comparisons")
        if self.spent >= self._next_look:
            self._next_look = self.spent + _ELEMENTS_PER_LOOK
            if self._clock() > self.deadline_s:
                raise TimeoutError("it takes too long to read")

    def spend_bytes(self, size: int) -> None:
        """Count bytes of text. Raises OverBudgetError for too many of them."""
        self._bytes -= size
        if self._bytes < 0:
            raise OverBudgetError("more bytes than are read")


def unlimited() -> Budget:
    """Return the budget of a box, whose time and memory are limited already."""
    return Budget(sys.maxsize, sys.maxsize)


def dumps(value: object, refer: Callable[[object], dict[str, Any]] | None = None) -> str:
    """Return the value as JSON text.

    refer: names a value that is not plain, in a form that `resolve` of `loads` understands.
    Raises TypeError for such a value without it, ValueError for one that is nested more than
    MAX_DEPTH deep or holds an integer of more than 4300 digits, which Python does not write.
    """
    return json.dumps(encode(value, refer or not_plain))


def loads(
    text: str | bytes,
    resolve: Callable[[dict[str, Any]], object] | None = None,
    budget: Budget | None = None,
) -> Any:
    """Return the value that `dumps` wrote. Raises ValueError for any other text."""
    return decode(parse(text, budget), resolve or unknown, budget)


def parse(text: str | bytes, budget: Budget | None = None) -> Any:
    """Return what JSON text says, untouched. Raises ValueError for what is none."""
    if budget is not None:
        budget.spend_bytes(len(text))
    try:
        return json.loads(text if isinstance(text, str) else text.decode("ascii"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def encode(value: object, refer: Callable[[object], dict[str, Any]], depth: int = 0) -> Any:
    """Return the value as what json writes. The C methods of the builtin types do the reading."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        pairs = _ITEMS(value)
        below = depth + 1
        return {
            "dict": [[encode(key, refer, below), encode(held, refer, below)] for key, held in pairs]
        }
    for kind in _SEQUENCES:
        if isinstance(value, kind):
            items = [encode(item, refer, depth + 1) for item in kind.__iter__(value)]
            return items if kind is list else {kind.__name__: items}
    return _encode_scalar(value, refer)


def _encode_scalar(value: object, refer: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
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


def decode(
    data: Any, resolve: Callable[[dict[str, Any]], object], budget: Budget | None = None
) -> Any:
    """Return the value that `encode` wrote; an object with another key goes to `resolve`.

    Raises ValueError for what `encode` did not write and for what goes beyond the budget,
    TimeoutError after its deadline. What is returned is never larger than what was given: no tag
    takes anything but what stands there.
    """
    return _Decoding(resolve, Budget() if budget is None else budget).value(data, 0)


class _Decoding:
    def __init__(self, resolve: Callable[[dict[str, Any]], object], budget: Budget) -> None:
        self._resolve = resolve
        self._budget = budget

    def value(self, data: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise OverBudgetError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(data, list):
            return self._items(cast("list[Any]", data), depth)
        if not isinstance(data, dict):
            self._budget.spend(1)
            return data
        self._budget.spend(_CONTAINER_COST)
        tagged = cast("dict[str, Any]", data)
        if len(tagged) != 1:
            return self._resolve(tagged)
        ((tag, content),) = tagged.items()
        match tag, content:
            case "tuple" | "deque", list():
                return _KIND_BY_TAG[tag](self._items(cast("list[Any]", content), depth))
            case "set" | "frozenset", list():
                return _KIND_BY_TAG[tag](self._hashable(cast("list[Any]", content), depth))
            case "dict", list():
                return self._dict(cast("list[Any]", content), depth)
            case _:
                return self._scalar(tag, content)

    def _scalar(self, tag: str, content: Any) -> object:
        match tag, content:
            case "complex", [float(real), float(imaginary)]:
                return complex(real, imaginary)
            case "bytes", str(digits):
                return bytes.fromhex(digits)
            case "bytearray", str(digits):
                return bytearray.fromhex(digits)
            case "range", [int(start), int(stop), int(step)]:
                return range(start, stop, step)
            case "type", str(name) if isinstance(vars(builtins).get(name), type):
                return vars(builtins)[name]
            case _:
                return self._resolve({tag: content})

    def _items(self, content: list[Any], depth: int) -> list[Any]:
        self._budget.spend(_CONTAINER_COST)
        return [self.value(item, depth + 1) for item in content]

    def _hashable(self, content: list[Any], depth: int) -> list[Any]:
        """Decode what is to be hashed, and pay for the comparisons that this leads to."""
        found: list[Any] = []
        cost_by_hash: dict[int, tuple[int, int]] = {}  # how many there are, what they hold together
        for item in content:
            before = self._budget.spent
            found.append(self.value(item, depth + 1))
            held = self._budget.spent - before
            try:
                key = hash(found[-1])
            except TypeError as error:
                raise ValueError(str(error)) from error
            number, together = cost_by_hash.get(key, (0, 0))
            cost_by_hash[key] = number + 1, together + held
            if number:
                self._budget.spend(together + number * held)
        return found

    def _dict(self, content: list[Any], depth: int) -> dict[Any, Any]:
        for pair in content:
            if not isinstance(pair, list) or len(cast("list[Any]", pair)) != 2:
                raise ValueError("an entry of a dict is no pair")
        keys = self._hashable([pair[0] for pair in content], depth)
        return dict(zip(keys, self._items([pair[1] for pair in content], depth), strict=True))


def not_plain(value: object) -> dict[str, Any]:
    """Refuse a value: the `refer` of those who want plain values only."""
    raise TypeError(f"{type(value).__name__} is no plain value")


def unknown(data: dict[str, Any]) -> object:
    """Refuse a reference: the `resolve` of those who want plain values only."""
    match data:
        case {"object": [int(), str(name)]}:
            raise ValueError(f"it holds a {name}")
        case _:
            raise ValueError(f"unknown tag {sorted(data)}")
