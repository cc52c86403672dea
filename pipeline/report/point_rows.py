"""How the stages of a sweep stand in a list of stages: below a line that says what is swept.

`base[size=1M,tokens=4M]` becomes `1M, 4M` there, so that rows differ where they begin, not where a
narrow terminal has no room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.point_names import PointName, split_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Grid:
    """The stages of one sweep, in order. keys: short. points: the labels of each stage, by name."""

    name: str
    keys: tuple[str, ...]
    points: Mapping[str, Mapping[str, str]]

    @property
    def title(self) -> str:
        """What is swept: `base[size,tokens]`."""
        return f"{self.name}[{','.join(self.keys)}]"

    def label(self, name: str) -> str:
        """Return what tells a stage from the others, its key named where not all have it."""
        labels = self.points[name]
        if tuple(labels) == self.keys:
            return ", ".join(labels.values())
        return ", ".join(f"{key} {text}" for key, text in labels.items())


def grids(names: Iterable[str]) -> tuple[Grid, ...]:
    """Return the sweeps among stages, of two stages and more."""
    parts = {name: part for name in names if (part := _point(name)) is not None}
    found: list[Grid] = []
    for sweep in dict.fromkeys(part.sweep for part in parts.values()):
        points = {name: part.labels for name, part in parts.items() if part.sweep == sweep}
        keys = tuple(dict.fromkeys(key for labels in points.values() for key in labels))
        if len(points) > 1:
            found.append(Grid(sweep, keys, points))
    return tuple(found)


@dataclass(frozen=True)
class ListedStage:
    """A row of a list of stages.

    place: of the stage in the list that was given. begins: the sweep whose first row it is, which a
    line above it names.
    """

    place: int
    label: str
    begins: Grid | None


def list_stages(names: Sequence[str]) -> list[ListedStage]:
    """Return stages as rows in order, those of a sweep together below its first."""
    by_name = {name: grid for grid in grids(names) for name in grid.points}
    listed: list[ListedStage] = []
    for place, name in enumerate(names):
        grid = by_name.get(name)
        if grid is None:
            listed.append(ListedStage(place, name, None))
        elif name == next(iter(grid.points)):
            places = {other: names.index(other) for other in grid.points}
            listed += [
                ListedStage(at, f"  {grid.label(other)}", grid if other == name else None)
                for other, at in places.items()
            ]
    return listed


def one_a_sweep(names: Sequence[str]) -> list[str]:
    """Return names with the first alone of those of a sweep."""
    others = {name for grid in grids(names) for name in list(grid.points)[1:]}
    return [name for name in names if name not in others]


def name_together(names: Sequence[str]) -> list[str]:
    """Return names with those of a sweep as one: `base[size,tokens] (15 stages)`."""
    by_name = {name: grid for grid in grids(names) for name in grid.points}
    said = (
        f"{grid.title} ({len(grid.points)} stages)" if (grid := by_name.get(name)) else name
        for name in names
    )
    return list(dict.fromkeys(said))


def _point(name: str) -> PointName | None:
    part = split_name(name)
    return None if part is None or part.is_best else part
