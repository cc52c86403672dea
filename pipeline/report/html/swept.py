"""What came of each sweep, as the report shows it: its stages as a table, a metric as curves.

Reads what the stages measured, nothing else. How a figure is drawn is figures.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline.report.formatting import NOT_MEASURED, duration, metric_label, short
from pipeline.report.html.figures import Drawn, lines
from pipeline.report.html.palette import COLOURS
from pipeline.report.html.plots import Figure, Legend
from pipeline.report.point_rows import Grid, grids
from pipeline.stages.best import direction_of, metric_of
from pipeline.text.amounts import count, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.report.html.run_source import ReportedRun, ReportedStage

# What is said of a stage that trains, the first one that it has being what the figure shows.
_LOSSES = ("bits_per_byte", "held_out_loss", "eval_loss", "held_out_accuracy", "loss")
_COUNTS = (("tokens", ("trained_tokens", "tokens")), ("parameters", ("parameters",)))
_MOST_METRICS = 4  # of stages that measure


@dataclass(frozen=True)
class SweptRow:
    """A stage. labels: by the sweep's keys. cells: by the metrics, then counts and time.

    best: which metrics are the best of all stages here.
    """

    name: str
    labels: tuple[str, ...]
    cells: tuple[str, ...]
    best: frozenset[int]


@dataclass(frozen=True)
class SweptStage:
    """A sweep. head: names of the columns of cells. num_there: how many stages are finished."""

    grid: Grid
    kind: str
    head: tuple[str, ...]
    rows: tuple[SweptRow, ...]
    num_there: int
    figure: Figure | None


def swept_stages(run: ReportedRun) -> tuple[SweptStage, ...]:
    """Return the sweeps of a run of which a stage is finished, in order."""
    by_name = {stage.name: stage for stage in run.stages}
    found: list[SweptStage] = []
    for number, grid in enumerate(grids(by_name)):
        stages = [by_name[name] for name in grid.points]
        if any(stage.artifact is not None for stage in stages):
            found.append(_swept(f"sweep{number}", grid, stages))
    return tuple(found)


def pick_best(stages: Sequence[ReportedStage], count_of: int) -> list[ReportedStage]:
    """Return some stages of a sweep in order: the best by what its figure shows, else some."""
    metrics = _metrics(stages) if any(stage.artifact is not None for stage in stages) else []
    direction = direction_of(metrics[0]) if metrics else None
    if direction is None:
        return list(stages[:count_of])
    sign = 1.0 if direction == "lowest" else -1.0

    def rank(stage: ReportedStage) -> float:
        value = metric_of(stage.metrics, metrics[0])
        return math.inf if value is None or math.isnan(value) else sign * value

    best = {stage.name for stage in sorted(stages, key=rank)[:count_of]}
    return [stage for stage in stages if stage.name in best]


def _swept(name: str, grid: Grid, stages: Sequence[ReportedStage]) -> SweptStage:
    metrics = _metrics(stages)
    values = {
        stage.name: [metric_of(stage.metrics, metric) for metric in metrics] for stage in stages
    }
    best = {
        place: _best([row[place] for row in values.values()], metric)
        for place, metric in enumerate(metrics)
    }
    counts = [
        (label, keys)
        for label, keys in _COUNTS
        if any(_first(stage.metrics, keys) is not None for stage in stages)
    ]
    rows = tuple(
        SweptRow(
            stage.name,
            tuple(grid.points[stage.name].get(key, "") for key in grid.keys),
            (
                *(NOT_MEASURED if v is None else short(v) for v in values[stage.name]),
                *(_amount(_first(stage.metrics, keys)) for _, keys in counts),
                _seconds(stage),
            ),
            frozenset(
                place
                for place, value in enumerate(values[stage.name])
                if value is not None and value == best[place]
            ),
        )
        for stage in stages
    )
    shown = [(stage.name, values[stage.name][0]) for stage in stages] if metrics else []
    return SweptStage(
        grid=grid,
        kind=stages[0].kind,
        head=(*map(metric_label, metrics), *(label for label, _ in counts), "time"),
        rows=rows,
        num_there=sum(stage.artifact is not None for stage in stages),
        figure=_figure(name, grid, metrics[0], {n: v for n, v in shown if v is not None})
        if metrics
        else None,
    )


def _metrics(stages: Sequence[ReportedStage]) -> list[str]:
    """Return the metrics that are shown: of training, or else the first that all stages have."""
    there = [stage.metrics for stage in stages if stage.artifact is not None]
    trained = [key for key in _LOSSES if any(metric_of(each, key) is not None for each in there)]
    if trained:
        return trained
    return [
        key
        for key in there[0]
        if direction_of(key) is not None and all(metric_of(each, key) is not None for each in there)
    ][:_MOST_METRICS]


def _best(values: Sequence[float | None], metric: str) -> float | None:
    """Return the best of several values; None where that is not known, or all are the same."""
    known = {value for value in values if value is not None}
    direction = direction_of(metric)
    if len(known) < 2 or direction is None:
        return None
    return min(known) if direction == "lowest" else max(known)


def _first(metrics: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    return next((float(metrics[key]) for key in keys if metrics.get(key) is not None), None)


def _amount(value: float | None) -> str:
    return NOT_MEASURED if value is None else count(round(value))


def _seconds(stage: ReportedStage) -> str:
    if stage.artifact is None:
        return stage.status
    return duration(float(stage.artifact.provenance.get("seconds") or 0.0))


def _figure(name: str, grid: Grid, metric: str, values: Mapping[str, float]) -> Figure | None:
    """Return a metric over the numeric key of most values, a line for each value of the others."""
    numbers = {
        key: {point: number_of(labels.get(key, "")) for point, labels in grid.points.items()}
        for key in grid.keys
    }
    numeric = [key for key in grid.keys if None not in numbers[key].values()]
    if not numeric:
        return None
    across = max(reversed(numeric), key=lambda key: len(set(numbers[key].values())))
    written = {
        x: grid.points[point][across] for point, x in numbers[across].items() if x is not None
    }
    points: dict[str, list[tuple[float, float]]] = {}
    for point, value in values.items():
        others = {key: text for key, text in grid.points[point].items() if key != across}
        line = ", ".join(f"{key} {text}" for key, text in others.items())
        points.setdefault(line, []).append((numbers[across][point] or 0.0, value))
    if max(map(len, points.values()), default=0) < 2:
        return None
    ordered = {line: sorted(found) for line, found in points.items()}
    return _drawn(name, grid, metric, across, ordered, written)


def _drawn(
    name: str,
    grid: Grid,
    metric: str,
    across: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    written: Mapping[float, str],
) -> Figure:
    """Draw the figure. written: how the recipe has each x."""
    label, xs = metric_label(metric), sorted({x for found in points.values() for x, _ in found})
    said = "; ".join(
        f"{line or grid.name}: " + ", ".join(f"{written[x]}: {short(y)}" for x, y in found)
        for line, found in points.items()
    )
    by_x = [dict(found) for found in points.values()]
    styles = [(number % COLOURS, number // COLOURS) for number in range(len(points))]
    return Figure(
        title=f"{label} by {across}",
        note=f"a line for each value of {' and '.join(key for key in grid.keys if key != across)}"
        if len(points) > 1
        else "",
        svg=lines(
            name,
            [
                Drawn(colour, [x for x, _ in found], [y for _, y in found], dash=dash)
                for (colour, dash), found in zip(styles, points.values(), strict=True)
            ],
            described=f"{label} by {across}: {said}",
            unit=across.replace("_", " "),
            with_points=True,
            is_geometric=is_geometric(xs),
            say_tick=written.__getitem__,
        ),
        legend=tuple(
            Legend(colour, line or grid.name, dash=dash or None)
            for (colour, dash), line in zip(styles, points, strict=True)
        ),
        head=(across, *(line or grid.name for line in points)),
        rows=tuple(
            (written[x], *(short(found[x]) if x in found else "" for found in by_x)) for x in xs
        ),
    )


def is_geometric(values: Sequence[float]) -> bool:
    """Whether ascending values grow by factors rather than by steps: an axis of doublings then."""
    if len(values) < 3 or values[0] <= 0:
        return False
    steps = [right - left for left, right in pairwise(values)]
    factors = [right / left for left, right in pairwise(values)]
    return max(factors) / min(factors) < max(steps) / min(steps)
