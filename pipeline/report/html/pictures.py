"""A grid of what each model draws, where the responses to a task are pictures, from items.jsonl.

A row for each group of items, so that what a model draws of one kind can be seen at a glance: that
it is right, and that it is not the same picture again and again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ITEMS
from pipeline.report.html.samples import Mark, best_ways, hide_place, mark_of, picture_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.report.comparison import StageComparison
    from pipeline.text.pictures import PageImage

_MOST_IN_ROW = 8
_MOST_ROWS = 12
_PICTURE_PX = 32


@dataclass(frozen=True)
class Drawing:
    """A response as a picture. described: for who does not see it."""

    picture: PageImage
    mark: Mark
    described: str


@dataclass(frozen=True)
class PictureGrid:
    """What a model draws of a task. rows: by group of items."""

    task: str
    model: str
    rows: tuple[tuple[str, tuple[Drawing, ...]], ...]


def picture_grids(folder: Path, comparison: StageComparison) -> tuple[PictureGrid, ...]:
    """Return the grids of a comparison, task by task; raises CorruptArtifactError."""
    path = folder / ITEMS
    try:
        return tuple(_grids(path, comparison))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error


def _grids(path: Path, comparison: StageComparison) -> Iterator[PictureGrid]:
    ways = best_ways(comparison)
    drawn: dict[tuple[str, str], dict[str, list[Drawing]]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if '"picture"' not in line:
                continue
            result = json.loads(line)
            key = (hide_place(result["task"]), hide_place(result["model"]))
            asked = (result["metric"], (result["style"], result.get("shots", 0)))
            if ways.get(key) == asked and (drawing := _drawing(result)) is not None:
                row = drawn.setdefault(key, {}).setdefault(str(result.get("group", "")), [])
                if len(row) < _MOST_IN_ROW:
                    row.append(drawing)
    for task, model in ways:
        if rows := drawn.get((task, model)):
            shown = sorted(rows.items())[:_MOST_ROWS]
            yield PictureGrid(task, model, tuple((group, tuple(row)) for group, row in shown))


def _drawing(result: dict[str, Any]) -> Drawing | None:
    picture = picture_of(result, about_px=_PICTURE_PX)
    if picture is None:
        return None
    mark = mark_of(result["score"])
    reason = f", {result['reason']}" if mark != "right" and result["reason"] else ""
    return Drawing(picture, mark, f"{result['gold']}: {mark}{reason}")
