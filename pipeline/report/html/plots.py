"""From what was read to figures with a legend and their numbers as a table; marks in tables.

Decides colours, words and axes; drawing is figures.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.formatting import estimate, metric_label, number, short
from pipeline.report.html.figures import Drawn, lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from eval.statistics.estimate import Estimate
    from pipeline.report.comparison import StageComparison
    from pipeline.report.html.charts import Chart
    from pipeline.report.html.curves import Panel, Series
    from pipeline.report.html.palette import Palette

MARK_WIDTH = 180.0
_MARK_MARGIN = 6.0
_TABLE_ROWS = 12  # of a long series


@dataclass(frozen=True)
class Legend:
    """What a colour, and a line's pattern, stand for, and a figure worth reading at once.

    dash: as of the line; None where it is told by its colour alone.
    """

    colour: int
    label: str
    note: str = ""
    dash: int | None = None


@dataclass(frozen=True)
class Figure:
    """A drawn figure with everything beside it. rows: first column x, then one a series."""

    title: str
    note: str
    svg: Markup
    legend: tuple[Legend, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Mark:
    """A dot with its interval on an axis, in SVG units; None: not there."""

    x: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    reference: float | None


def mark(found: Estimate, axis: tuple[float, float], reference: float | None = None) -> Mark:
    """Return where the parts of a mark stand on an axis of MARK_WIDTH."""

    def at(value: float) -> float:
        share = (value - axis[0]) / (axis[1] - axis[0])
        inner = MARK_WIDTH - 2 * _MARK_MARGIN
        return round(_MARK_MARGIN + inner * min(max(share, 0.0), 1.0), 1)

    return Mark(
        x=at(found.value),
        low=None if found.low is None else at(found.low),
        high=None if found.high is None else at(found.high),
        seeds=tuple(at(value) for value in found.by_seed if value is not None),
        reference=None if reference is None else at(reference),
    )


def training_figures(
    name: str, panels: Sequence[Panel], *, colour: int, unit: str = "step"
) -> tuple[Figure, ...]:
    """Return a small figure a panel, all of them in the colour of the model that is trained.

    name: makes their ids unlike others'. unit: of x.
    """
    return tuple(
        _training_figure(f"{name}-{place}", panel, colour, unit)
        for place, panel in enumerate(panels)
    )


def _training_figure(name: str, panel: Panel, colour: int, unit: str) -> Figure:
    said = "; ".join(
        f"{series.label} from {short(series.values[0])} to {short(series.values[-1])}"
        for series in panel.series
    )
    first = panel.series[0]
    return Figure(
        title=panel.title,
        note=panel.note,
        svg=lines(
            name,
            [
                Drawn(colour, series.steps, series.values, dash=number)
                for number, series in enumerate(panel.series)
            ],
            described=f"{panel.title} over {unit}s {short(first.steps[0])} to "
            f"{short(first.steps[-1])}: {said}{_marked(panel, unit)}",
            unit=unit,
            marks=panel.marks,
        ),
        legend=tuple(
            Legend(colour, series.label, short(series.values[-1]), dash=number)
            for number, series in enumerate(panel.series)
        ),
        head=(unit, *(series.label for series in panel.series)),
        rows=_thinned(panel.series),
    )


def _marked(panel: Panel, unit: str) -> str:
    """Return where a panel is marked, for who does not see it."""
    return "".join(f"; a sign begins at {unit} {short(mark)}" for mark in panel.marks)


def _thinned(series: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    """Return about a dozen rows: the first series' steps, and the others' value at or before."""
    steps = series[0].steps
    stride = max(1, len(steps) // _TABLE_ROWS)
    chosen = sorted({*range(0, len(steps), stride), len(steps) - 1})

    def at(other: Series, step: float) -> str:
        known = [v for s, v in zip(other.steps, other.values, strict=True) if s <= step]
        return short(known[-1]) if known else ""

    return tuple(
        (short(steps[place]), *(at(other, steps[place]) for other in series)) for place in chosen
    )


def chart_figure(
    name: str, chart: Chart, comparison: StageComparison, *, kind: str, colours: Palette
) -> Figure:
    """Return a chart of models: a sweep, a curve over groups, or a calibration."""
    is_calibration = kind == "calibration"
    title, note = chart.title, chart.note
    if not is_calibration:
        note = metric_label(note)
    values = [found.value for line in chart.lines for found in line.estimates]
    described = "; ".join(
        f"{line.model} "
        + ", ".join(
            f"{short(x)}: {e.value:.2f}" for x, e in zip(line.x, line.estimates, strict=True)
        )
        for line in chart.lines
    )
    return Figure(
        title=title,
        note=note,
        svg=lines(
            name,
            [
                Drawn(
                    colours(line.model),
                    line.x,
                    [found.value for found in line.estimates],
                    [found.low for found in line.estimates],
                    [found.high for found in line.estimates],
                    dash=int(line.model == comparison.baseline),
                )
                for line in chart.lines
            ],
            described=f"{title}, {note}, by {chart.unit}: {described}{_cut(chart)}",
            unit=chart.unit,
            is_share=all(0 <= value <= 1 for value in values),
            with_points=True,
            with_diagonal=is_calibration,
            marks=chart.marks,
        ),
        legend=tuple(Legend(colours(line.model), line.model, line.note) for line in chart.lines),
        head=(chart.unit, *(line.model for line in chart.lines)),
        rows=_chart_rows(chart),
    )


def _cut(chart: Chart) -> str:
    """Return where a chart is marked, for who does not see it."""
    return "".join(f"; a window ends at {short(mark)}" for mark in chart.marks)


def _chart_rows(chart: Chart) -> tuple[tuple[str, ...], ...]:
    by_model = [dict(zip(line.x, line.estimates, strict=True)) for line in chart.lines]
    return tuple(
        (short(x), *(estimate(found[x]) if x in found else "" for found in by_model))
        for x in sorted({x for found in by_model for x in found})
    )


def calibration_figure(
    name: str,
    bins: Sequence[tuple[float, float, int]],
    error: float | None,
    *,
    noun: str,
    colour: int,
) -> Figure:
    """Return how often the surer response is the preferred one, by how sure the model is.

    bins: (confidence, accuracy, n). error: expected calibration error. noun: what they are of.
    """
    confidence, accuracy, counts = zip(*bins, strict=True)
    rows = tuple((number(c), number(a), f"{n}") for c, a, n in bins)
    said = ", ".join(f"{c} sure: {a} right" for c, a, _ in rows)
    return Figure(
        title="Calibration",
        note="" if error is None else f"expected calibration error {number(error)}",
        svg=lines(
            name,
            [Drawn(colour, confidence, accuracy)],
            described=f"Calibration on {sum(counts)} {noun}: {said}",
            unit="confidence",
            is_share=True,
            with_points=True,
            with_diagonal=True,
        ),
        legend=(Legend(colour, noun),),
        head=("confidence", "right", "pairs"),
        rows=rows,
    )
