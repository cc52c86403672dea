"""The forest plot on top of a report: differences to the baseline by task and model, on one axis.

Computes places; what a mark looks like is the template's. Drawn as one row a model, so that the
figures stand beside their marks and the page can be narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.formatting import interval, metric_label, number

if TYPE_CHECKING:
    from eval.comparison.score_rows import Change
    from eval.statistics.estimate import Estimate
    from pipeline.report.board import Board

WIDTH = 400.0
_MARGIN = 10.0
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_MOST_TICKS = 7


@dataclass(frozen=True)
class ForestMark:
    """One model's difference: its place on the axis, and the figures as text.

    low, high: None without an interval. is_firm: a gain or loss that stands with p adjusted.
    """

    model: str
    x: float
    low: float | None
    high: float | None
    value: str
    within: str
    verdict: Change
    is_firm: bool


@dataclass(frozen=True)
class ForestRow:
    """The models' differences on one task; is_mean: over all tasks instead."""

    label: str
    metric: str
    marks: tuple[ForestMark, ...]
    is_mean: bool = False


@dataclass(frozen=True)
class Forest:
    """ticks: place and label of each line of the axis; zero: the place of no difference."""

    rows: tuple[ForestRow, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + (WIDTH - 2 * _MARGIN) * min(max(share, 0.0), 1.0), 1)


def forest(found: Board) -> Forest | None:
    """Return the differences of a board; None where it has none."""
    deltas = [
        row.difference for task in found.tasks for row in task.rows.values() if row.difference
    ]
    if not deltas:
        return None
    axis, ticks = _axis(deltas)

    def mark(model: str, delta: Estimate, verdict: Change, *, is_firm: bool) -> ForestMark:
        return ForestMark(
            model=model,
            x=axis.at(delta.value),
            low=None if delta.low is None else axis.at(delta.low),
            high=None if delta.high is None else axis.at(delta.high),
            value=number(delta.value, sign=True),
            within=interval(delta, sign=True),
            verdict=verdict,
            is_firm=is_firm,
        )

    means = tuple(
        mark(mean.model, mean.delta, mean.verdict, is_firm=True)
        for mean in found.means
        if mean.delta is not None
    )
    tasks = [
        ForestRow(
            task.task,
            metric_label(task.metric),
            tuple(
                mark(row.model, row.difference, row.verdict, is_firm=row.is_firm)
                for row in task.rows.values()
                if row.difference is not None
            ),
        )
        for task in found.tasks
    ]
    first = [ForestRow(f"mean of {found.num_meant} tasks", "", means, is_mean=True)]
    rows = ([*first] if means else []) + [row for row in tasks if row.marks]
    return Forest(tuple(rows), tuple((axis.at(t), _tick(t)) for t in ticks), axis.at(0.0))


def _axis(deltas: list[Estimate]) -> tuple[_Axis, list[float]]:
    """Return an axis that holds every interval and 0, and round numbers on it."""
    ends = [end for d in deltas for end in (d.value, d.low, d.high) if end is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = (high - low) or 1.0
    step = next((s for s in _STEPS if span / s <= _MOST_TICKS), span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(number * step, 6) for number in range(first, last + 1)]
    return _Axis(ticks[0], ticks[-1] if len(ticks) > 1 else ticks[0] + step), ticks


def _tick(value: float) -> str:
    digits = 2 if round(value * 100) % 10 else 1
    return number(value, digits, sign=True) if value else "0"
