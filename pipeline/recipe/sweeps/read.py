"""Reads what a stage's `sweep:` says: a mapping of keys to lists (a grid), or a list of points.

In a grid, `a, b: [[1, 2], [3, 4]]` are keys that change together.

Knows the document and nothing of what the keys mean: whether a stage takes them is checked where
stages are. Errors point at the value that is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

from pipeline.config.point_names import point_name, short_keys, split_name, value_labels
from pipeline.errors import PosttrainError
from pipeline.recipe.sweeps.points import Point, Setting, Sweep
from pipeline.recipe.yaml.document import Document, has_place
from pipeline.recipe.yaml.parser import Location
from pipeline.text.values import quote, shorten

SWEEP = "sweep"
MAX_POINTS = 500
_MAX_NAME_BYTES = 200  # a file name has 255, and partial ones are longer
_FORMS = "write `key: [value, value]`, or a list of `{key: value}`"
# Returns the names of the stages that `$other[*]` or `$other[...]` stands for, given its place;
# None for a value that is no reference to a sweep.
Resolve = Callable[[Any, Location], list[str] | None]


@dataclass(frozen=True)
class _Value:
    """A value of a key. labels: those of the stage of another sweep that it is, else None.

    is_named: whether it stands in the stage's name; one that changes with another need not.
    """

    value: Any
    place: Location
    labels: Mapping[str, str] | None = None
    is_named: bool = True


def read_sweep(document: Document, name: str, resolve: Resolve) -> Sweep:
    """Return the points of a stage's sweep; PosttrainError with its place for what is wrong."""
    place: Location = ("stages", name, SWEEP)
    fields: dict[str, Any] = document.value["stages"][name]
    written = fields[SWEEP]
    if not isinstance(written, dict | list):
        message = f"`sweep` is {quote(written)}, not a mapping of keys to lists"
        raise PosttrainError(document.where(place), message, _FORMS)
    if not written:
        raise PosttrainError(document.where(place), "`sweep` is empty", _FORMS)
    reader = _Reader(document, name, resolve)
    if isinstance(written, dict):
        rows = reader.grid(cast("dict[str, Any]", written), place)
    else:
        rows = reader.points(cast("list[Any]", written), place)
    return reader.sweep(rows, place)


class _Reader:
    def __init__(self, document: Document, name: str, resolve: Resolve) -> None:
        self._document = document
        self._name = name
        self._fields: dict[str, Any] = {
            key: value for key, value in document.value["stages"][name].items() if key != SWEEP
        }
        self._resolve = resolve

    def grid(self, written: dict[str, Any], place: Location) -> list[dict[str, _Value]]:
        """Return every combination of the keys' values, the last key's changing fastest."""
        axes = [self._rows(key, values, at) for key, values, at in self._flat(written, place)]
        self._check_count(math.prod(map(len, axes)), place)
        combined: list[dict[str, _Value]] = []
        for rows in product(*axes):
            point: dict[str, _Value] = {}
            for row in rows:
                for key in row.keys() & point.keys():
                    message = f"`{key}` stands twice in the sweep"
                    raise self._error(row[key].place, message, "write it once")
                point |= row
            combined.append(point)
        return combined

    def points(self, written: list[Any], place: Location) -> list[dict[str, _Value]]:
        """Return the points of a list."""
        self._check_count(len(written), place)
        rows: list[dict[str, _Value]] = []
        for number, entry in enumerate(written):
            at = (*place, number)
            if not isinstance(entry, dict) or not entry:
                message = f"a point of a sweep is {quote(entry)}, not a mapping of keys to values"
                raise self._error(at, message, "write `- {key: value}`")
            row: dict[str, _Value] = {}
            for key, value, where in self._flat(cast("dict[str, Any]", entry), at):
                self._check_key(key, where)
                row[key] = self._value(value, where)
            rows.append(row)
        return rows

    def sweep(self, rows: Sequence[Mapping[str, _Value]], place: Location) -> Sweep:
        """Name the points."""
        keys = list(dict.fromkeys(key for row in rows for key in row))
        short = short_keys(keys)
        taken = {key for key in keys if _is_of_one_sweep([row[key] for row in rows if key in row])}
        names = {key: self._names(key, rows) for key in keys if key not in taken}
        points: list[Point] = []
        for row in rows:
            labels: dict[str, str] = {}
            for key, value in row.items():
                if not value.is_named:
                    continue
                if key in taken:
                    own = {short[other] for other in row if other not in taken}
                    for label, text in (value.labels or {}).items():
                        is_free = label not in own and label not in labels
                        labels[label if is_free else f"{short[key]}.{label}"] = text
                else:
                    labels[short[key]] = names[key][_as_text(value.value)]
            name = point_name(self._name, labels)
            if len(name.encode()) > _MAX_NAME_BYTES:
                message = f"the stages of this sweep would have names of {len(name)} characters"
                raise self._error(place, message, "sweep fewer keys, or shorter values")
            settings = tuple(Setting(key, one.value, one.place) for key, one in row.items())
            points.append(Point(name, labels, settings))
        self._check_names(points)
        named = {key for row in rows for key, value in row.items() if value.is_named}
        return Sweep(self._name, tuple(points), {key: short[key] for key in names if key in named})

    def _names(self, key: str, rows: Sequence[Mapping[str, _Value]]) -> dict[str, str]:
        """Return what each value of a key is called, by the value as text."""
        by_text = {_as_text(row[key].value): row[key].value for row in rows if key in row}
        return dict(zip(by_text, value_labels(by_text.values()), strict=True))

    def _check_names(self, points: Sequence[Point]) -> None:
        seen: set[str] = set()
        for point in points:
            if point.name in seen:
                message = f"`{point.name}` stands twice in the sweep"
                raise self._error(point.settings[0].place[:4], message, "take one of them out")
            seen.add(point.name)

    def _flat(
        self, written: dict[str, Any], place: Location
    ) -> Iterator[tuple[str, Any, Location]]:
        """Yield dotted keys with their values; a mapping below a key goes on with it."""
        for key, value in written.items():
            at = (*place, key)
            if isinstance(value, dict) and value:
                for inner, found, where in self._flat(cast("dict[str, Any]", value), at):
                    yield f"{key}.{inner}", found, where
            else:
                yield key, value, at

    def _rows(self, key: str, values: Any, place: Location) -> list[dict[str, _Value]]:
        """Return what a key of a grid sets in turn; several keys with commas, together."""
        keys = [part.strip() for part in key.split(",")]
        if len(keys) == 1:
            return [{key: value} for value in self._axis(key, values, place)]
        for one in keys:
            self._check_key(one, place)
        rows: list[dict[str, _Value]] = []
        for value in self._axis(key, values, place):
            items = _as_list(value.value)
            if len(items) != len(keys):
                message = f"`{shorten(key)}` are {len(keys)} keys, and this is {quote(value.value)}"
                message += f" of {len(items)}" if items else ""
                raise self._error(value.place, message, "write a list with a value for each")
            at = value.place
            rows.append(
                {
                    one: _Value(item, (*at, number))
                    for number, (one, item) in enumerate(zip(keys, items, strict=True))
                }
            )
        texts = [[_as_text(value.value) for value in row.values()] for row in rows]
        fewest = next(  # of the keys, from the first on, by which the rows are told apart
            (n for n in range(1, len(keys)) if len({tuple(row[:n]) for row in texts}) == len(rows)),
            len(keys),
        )
        return [
            {one: replace(row[one], is_named=n < fewest) for n, one in enumerate(keys)}
            for row in rows
        ]

    def _axis(self, key: str, values: Any, place: Location) -> list[_Value]:
        if "," not in key:
            self._check_key(key, place)
        whole = self._taken(values, place)
        if whole is not None:
            return whole
        if not isinstance(values, list):
            message = f"`{key}` of a sweep is {quote(values)}, not a list of values"
            raise self._error(place, message, f"write `{key}: [...]`")
        if not values:
            raise self._error(place, f"`{key}` of the sweep has no values", "write some")
        axis: list[_Value] = []
        seen: dict[str, int] = {}
        for number, value in enumerate(cast("list[Any]", values)):
            at = (*place, number)
            found = self._taken(value, at)
            for one in found if found is not None else [_Value(value, at)]:
                text = _as_text(one.value)
                if text in seen:
                    message = f"{quote(one.value)} stands twice in `{key}` of the sweep"
                    raise self._error(at, message, "take one of them out")
                seen[text] = number
                axis.append(one)
        return axis

    def _value(self, value: Any, place: Location) -> _Value:
        found = self._taken(value, place)
        return found[0] if found is not None and len(found) == 1 else _Value(value, place)

    def _taken(self, value: Any, place: Location) -> list[_Value] | None:
        """Return the stages of another sweep that a value stands for, with their labels."""
        names = self._resolve(value, place)
        if names is None:
            return None
        parts = {name: split_name(name) for name in names}
        return [
            _Value(f"${name}", place, None if part is None or part.is_best else part.labels)
            for name, part in parts.items()
        ]

    def _check_key(self, key: str, place: Location) -> None:
        if key.split(".")[0] in ("stage", SWEEP, ""):
            message = f"`{shorten(key)}` cannot be swept"
            raise self._key_error(place, message, "write a stage of its own")
        if has_place(self._fields, key.split(".")):
            message = f"`{key}` stands in the stage and in its sweep"
            raise self._key_error(place, message, "write it in one of them")

    def _check_count(self, count: int, place: Location) -> None:
        if count > MAX_POINTS:
            message = f"the sweep of `{self._name}` makes {count:,} stages"
            raise self._error(place, message, f"at most {MAX_POINTS}; write fewer values")

    def _key_error(self, place: Location, message: str, hint: str) -> PosttrainError:
        return PosttrainError(self._document.where(place, key=True), message, hint)

    def _error(self, place: Location, message: str, hint: str) -> PosttrainError:
        return PosttrainError(self._document.where(place), message, hint)


def _is_of_one_sweep(values: Sequence[_Value]) -> bool:
    """Whether values are stages of one other sweep, whose labels they then have."""
    sweeps = {str(value.value).partition("[")[0] for value in values}
    return all(value.labels is not None for value in values) and len(sweeps) == 1


def _as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
