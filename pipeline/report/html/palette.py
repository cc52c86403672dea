"""One colour per model in all of a report: in tables, figures, samples and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COLOURS = 8  # colours of the page (style.css), taken in turn where there are more models


@dataclass(frozen=True)
class Palette:
    """The number of a colour by a model's name; what has no colour of its own is grey, 0."""

    by_name: Mapping[str, int]

    def __call__(self, name: str) -> int:
        """Return the number of a model's colour."""
        return self.by_name.get(name, 0)


def palette_of(names: Iterable[str]) -> Palette:
    """Return the colours of models in the order in which they are given, the first one's grey.

    Names may come again: a model of several comparisons has its colour in all of them.
    """
    once = dict.fromkeys(names)
    return Palette({name: number % COLOURS for number, name in enumerate(once)})
