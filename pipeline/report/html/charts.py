"""Which curves a comparison gives: scores over demonstrations, over groups of items, calibration.

Chooses points; how a chart is drawn is plots.py's subject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.comparison.score_rows import pick_best_rows
from eval.results import CHOICE
from eval.statistics.estimate import Estimate
from eval.tasks import group_unit
from pipeline.report.formatting import asking_label, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.comparison.breakdown import GroupRow
    from eval.comparison.calibration_table import CalibrationRow
    from pipeline.report.comparison import StageComparison

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_FEWEST_POINTS = 3  # of a curve
_TOKENS = "tokens"


@dataclass(frozen=True)
class Line:
    """One model's line in a figure. x, estimates: of the same length. note: beside its name."""

    model: str
    x: tuple[float, ...]
    estimates: tuple[Estimate, ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of lines, one per model. note: under the title. unit: of x. marks: x of note."""

    title: str
    note: str
    unit: str
    lines: tuple[Line, ...]
    marks: tuple[float, ...] = ()


def demonstration_charts(comparison: StageComparison) -> tuple[Chart, ...]:
    """Return score against demonstrations shown, where three numbers of them or more were tried."""
    columns, rows = comparison.styles.columns, comparison.styles.rows
    charts: list[Chart] = []
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        lines: list[Line] = []
        for row in (row for row in rows if (row.task, row.metric) == (task, metric)):
            points = [
                (float(cell.shots), cell.estimate)
                for column, cell in zip(columns, row.cells, strict=True)
                if cell is not None and cell.estimate is not None
                if column.style in ("zero-shot", "few-shot")
            ]
            if len(points) >= _FEWEST_POINTS:
                lines.append(_line(row.model, points))
        if lines:
            charts.append(Chart(task, metric, "demonstrations in the prompt", tuple(lines)))
    return tuple(charts)


def group_charts(
    comparison: StageComparison, windows: Mapping[str, int] | None = None
) -> tuple[Chart, ...]:
    """Return score against groups that are numbers: a chart per task and metric.

    windows: tokens that a model's attention is cut to, by its name; marked where x is in tokens.
    """
    best = _best_groups(comparison)
    numeric = _numeric_tasks(best)
    rows = [row for row in best if row.task in numeric]
    charts: list[Chart] = []
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        lines: list[Line] = []
        unit = group_unit(task)
        cut = (windows or {}) if unit.startswith(_TOKENS) else {}
        own = [row for row in rows if (row.task, row.metric) == (task, metric)]
        for model in dict.fromkeys(row.model for row in own):
            of_model = [row for row in own if row.model == model]
            points = [(float(row.group), row.estimate) for row in of_model if row.estimate]
            if points:
                label = asking_label(of_model[0].style, of_model[0].shots)
                window = f", window of {cut[model]} tokens" if model in cut else ""
                lines.append(_line(model, points, note=f"{label}{window}"))
        last = max((line.x[-1] for line in lines), default=0.0)
        marks = {float(cut[e.model]) for e in lines if cut.get(e.model, last) < last}
        charts.append(Chart(task, metric, unit, tuple(lines), tuple(sorted(marks))))
    return tuple(charts)


def named_groups(comparison: StageComparison) -> tuple[GroupRow, ...]:
    """Return the scores by group that no chart shows: of groups that are names."""
    rows = _best_groups(comparison)
    numeric = _numeric_tasks(rows)
    return tuple(row for row in rows if row.task not in numeric)


def calibration_charts(comparison: StageComparison) -> tuple[Chart, ...]:
    """Return how often the models were right, by how sure they were: a chart per task."""
    best = _best_ways(comparison)
    rows = [
        row
        for row in comparison.calibration
        if best.get((row.task, CHOICE, row.model)) == (row.style, row.shots)
    ]
    return tuple(
        Chart(
            task,
            "with the expected calibration error",
            "confidence",
            tuple(_calibration_line(row) for row in rows if row.task == task and row.bins),
        )
        for task in dict.fromkeys(row.task for row in rows)
    )


def _calibration_line(row: CalibrationRow) -> Line:
    points = [(place.confidence, Estimate(place.accuracy)) for place in row.bins]
    return _line(row.model, points, note=number(row.error))


def _line(model: str, points: Sequence[tuple[float, Estimate]], *, note: str = "") -> Line:
    ordered = sorted(points, key=lambda point: point[0])
    return Line(model, tuple(x for x, _ in ordered), tuple(e for _, e in ordered), note)


def _best_ways(comparison: StageComparison) -> dict[tuple[str, str, str], tuple[str, int]]:
    """Return style and shots of each model's best way, by task, metric and model."""
    rows = pick_best_rows(comparison.rows)
    return {(row.task, row.metric, row.model): (row.style, row.shots) for row in rows}


def _best_groups(comparison: StageComparison) -> list[GroupRow]:
    """Return the scores by group of each model asked in its best way."""
    best = _best_ways(comparison)
    return [
        row
        for row in comparison.groups
        if best.get((row.task, row.metric, row.model)) == (row.style, row.shots)
    ]


def _numeric_tasks(rows: Sequence[GroupRow]) -> set[str]:
    """Return the tasks whose groups are all numbers, three of them at least: a curve then."""
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row.task, set()).add(row.group)
    return {
        task
        for task, names in groups.items()
        if len(names) >= _FEWEST_POINTS and all(_NUMBER.fullmatch(name) for name in names)
    }
