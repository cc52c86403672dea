"""Writes a recipe's sweeps out: a stage for each point, and `$base[...]` as the stages it names.

Works on the document, before stages are validated: what comes after knows stages only. Every value
keeps its place in the file, so an error of a point's stage points at the value of the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import PosttrainError
from pipeline.recipe.sweeps.points import Point, Sweep
from pipeline.recipe.sweeps.read import SWEEP, read_sweep
from pipeline.recipe.sweeps.selectors import (
    Selector,
    best_name,
    parse_selector,
    select,
    split_reference,
)
from pipeline.recipe.yaml.document import Document, assign
from pipeline.recipe.yaml.parser import Location, Position
from pipeline.stages import stage_for
from pipeline.stages.best import direction_of
from pipeline.text.values import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Expansion:
    """A document whose sweeps are stages. sweeps: by name of the stage that they are of.

    lists: where a reference to several stages stands in place of one value, and the reference.
    """

    document: Document
    sweeps: Mapping[str, Sweep] = field(default_factory=dict[str, Sweep])
    lists: Mapping[Location, str] = field(default_factory=dict[Location, str])


def expand(document: Document) -> Expansion:
    """Return the document with every sweep written out, itself where there is none.

    Raises PosttrainError, with its place, for a sweep or a reference to one that is wrong.
    """
    stages: dict[str, dict[str, Any]] = document.value["stages"]
    if not any(SWEEP in fields for fields in stages.values()):
        return Expansion(document)
    return _Expander(document).expand()


class _Expander:
    """Builds the new document from the old one, value by value, with their places."""

    def __init__(self, document: Document) -> None:
        self._old = document
        self._sweeps: dict[str, Sweep] = {}
        self._trail: list[str] = []  # the sweeps being read, each for the one before
        self._stages: dict[str, Any] = {}
        self._chosen: dict[str, Any] = {}  # stages that choose, by name
        self._lists: dict[Location, str] = {}
        self._positions: dict[Location, Position] = {}
        self._value_positions: dict[Location, Position] = {}
        self._overridden: dict[Location, str] = {}

    def expand(self) -> Expansion:
        old = self._old
        top = {key: value for key, value in old.value.items() if key != "stages"}
        for table, new in self._tables():
            new.update({place: at for place, at in table.items() if place[:1] != ("stages",)})
        self._place(("stages",), ("stages",))
        for name, fields in old.value["stages"].items():
            if SWEEP in fields:
                for point in self._sweep(name, ("stages", name)).points:
                    self._stages[point.name] = self._point(name, point)
            else:
                self._stages[name] = self._copy(fields, ("stages", name), ("stages", name))
        document = Document(
            old.path,
            {**top, "stages": {**self._stages, **self._chosen}},
            self._positions,
            self._value_positions,
            self._overridden,
            old,
        )
        return Expansion(document, self._sweeps, self._lists)

    def _tables(self) -> tuple[tuple[Mapping[Location, Any], dict[Location, Any]], ...]:
        old = self._old
        return (
            (old.positions, self._positions),
            (old.value_positions, self._value_positions),
            (old.overridden, self._overridden),
        )

    def _sweep(self, name: str, place: Location) -> Sweep:
        """Return the sweep of a stage, read once. place: where it is asked for."""
        if name not in self._sweeps:
            if name in self._trail:
                circle = " -> ".join([*self._trail[self._trail.index(name) :], name])
                hint = "each builds on earlier ones only"
                message = f"the sweeps go in a circle: {circle}"
                raise PosttrainError(self._old.where(place), message, hint)
            self._trail.append(name)
            self._sweeps[name] = read_sweep(self._old, name, self._names)
            self._trail.pop()
        return self._sweeps[name]

    def _point(self, name: str, point: Point) -> dict[str, Any]:
        """Return the keys of a point's stage: those of the stage, and what the point sets."""
        written, new = self._old.value["stages"][name], ("stages", point.name)
        self._place(("stages", name), new)
        fields = {
            key: self._copy(value, ("stages", name, key), (*new, key))
            for key, value in written.items()
            if key != SWEEP
        }
        for setting in point.settings:
            where = self._old.where(setting.place)
            location, created = assign(fields, setting.key.split("."), None, where)
            container: Any = fields
            for part in location[:-1]:
                container = container[part]
            container[location[-1]] = self._copy(setting.value, setting.place, (*new, *location))
            for made in (*created, location):
                self._place_key(setting.place, (*new, *made))
        return fields

    def _copy(self, value: Any, old: Location, new: Location) -> Any:
        """Return a value with the references in it resolved, and note where it stands."""
        self._place(old, new)
        if isinstance(value, dict):
            entries = cast("dict[str, Any]", value).items()
            return {key: self._copy(inner, (*old, key), (*new, key)) for key, inner in entries}
        if isinstance(value, list):
            items: list[Any] = []
            for number, item in enumerate(cast("list[Any]", value)):
                at = (*old, number)
                names = self._names(item, at)
                written: list[Any] = [item] if names is None else [f"${name}" for name in names]
                for one in written:
                    items.append(self._copy(one, at, (*new, len(items))))
            return items
        names = self._names(value, old)
        if names is None:
            return value
        if len(names) == 1:
            return f"${names[0]}"
        self._lists[new] = str(value)
        for number in range(len(names)):
            self._place(old, (*new, number))
        return [f"${name}" for name in names]

    def _place(self, old: Location, new: Location) -> None:
        """Note that what is at a new location stands where the old one does."""
        for table, copied in self._tables():
            if old in table:
                copied[new] = table[old]

    def _place_key(self, place: Location, new: Location) -> None:
        """Note that a key which a sweep sets stands where the sweep has it; place: of its value."""
        if new in self._positions:
            self._value_positions.setdefault(new, self._positions[new])
        key = place
        while isinstance(key[-1], int):
            key = key[:-1]
        if key in self._old.positions:
            self._positions[new] = self._old.positions[key]
        if key in self._old.overridden:
            self._overridden[new] = self._old.overridden[key]

    def _names(self, value: Any, place: Location) -> list[str] | None:
        """Return the stages that `$base[...]` stands for; None for what is no such reference."""
        parts = split_reference(value) if isinstance(value, str) and value[:1] == "$" else None
        stages = self._old.value["stages"]
        if parts is None or parts[0] not in stages:
            return None
        name, inner = parts
        if SWEEP not in stages[name]:
            message = f"`{name}` has no sweep: it is one stage"
            raise PosttrainError(self._old.where(place), message, f"write `${name}`")
        sweep = self._sweep(name, place)
        if any(point.name == f"{name}[{inner}]" for point in sweep.points):
            return [f"{name}[{inner}]"]
        try:
            selector = parse_selector(inner)
            points = select(sweep, selector)
            if selector.metric is None:
                return [point.name for point in points]
            return [self._choose(sweep, selector, points, place)]
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            raise PosttrainError(self._old.where(place), message, hint) from error

    def _choosing_kind(self, name: str) -> str:
        """Return the kind of stage that chooses among what a stage makes."""
        kind = str(self._old.value["stages"][name].get("stage", ""))
        try:
            produces = stage_for(kind, self._old.path.resolve().parent).produces
        except ValueError:  # an error where stages are read
            return "best"
        return "best_reward_model" if produces == "reward_model" else "best"

    def _choose(
        self, sweep: Sweep, selector: Selector, points: list[Point], place: Location
    ) -> str:
        """Add the stage that chooses one of the points, and return its name."""
        metric = selector.metric or ""
        direction = selector.direction or direction_of(metric)
        if direction is None:
            raise ValueError(
                f"whether the lowest or the highest `{shorten(metric)}` is the best is not known; "
                f"write `${sweep.name}[best: lowest {shorten(metric)}]`, or highest"
            )
        name = best_name(sweep, selector)
        models = [f"${point.name}" for point in points]
        fields = {
            "stage": self._choosing_kind(sweep.name),
            "models": models,
            "by": metric,
            "direction": direction,
        }
        if name not in self._chosen:
            self._chosen[name] = fields
            self._place(place, ("stages", name))
            for key in fields:
                self._place(place, ("stages", name, key))
            for number in range(len(models)):
                self._place(place, ("stages", name, "models", number))
        return name
