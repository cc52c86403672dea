"""What a sweep is once it was read: its points in order, each with what it sets and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.recipe.yaml.parser import Location


@dataclass(frozen=True)
class Setting:
    """One key of one point. key: dotted, as written. place: where its value stands in the file."""

    key: str
    value: Any
    place: Location


@dataclass(frozen=True)
class Point:
    """A stage that a sweep makes. labels: what its values are called in its name, by short key."""

    name: str
    labels: Mapping[str, str]
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Sweep:
    """All stages that one stage of the file stands for.

    keys: short keys of the labels, by the dotted key that may be written for them.
    """

    name: str
    points: tuple[Point, ...]
    keys: Mapping[str, str]
