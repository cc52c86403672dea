"""Loss against compute on logarithmic axes, points and a law's curves, as figures.py draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, log10
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from pipeline.report.html.figures import (
    INK,
    SERIES,
    STYLE,
    TALL_PT,
    WIDE_PT,
    Drawn,
    frame,
    inline,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from matplotlib.axes import Axes

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True)
class Points:
    """Points of one colour. is_ring: of those that are told apart, drawn as rings."""

    colour: int
    x: Sequence[float] = field(default_factory=tuple[float, ...])
    y: Sequence[float] = field(default_factory=tuple[float, ...])
    is_ring: bool = False


def log_plane(
    name: str,
    curves: Sequence[Drawn],
    points: Sequence[Points],
    *,
    frontier: Drawn,
    described: str,
    unit: str,
) -> Markup:
    """Return an SVG element of curves and points. frontier: dashed, below all of them."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE_PT / 72, TALL_PT / 72))
        axes = figure.add_axes((0.095, 0.145, 0.885, 0.815))
        frame(axes, unit)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot(frontier.x, frontier.y, color=INK, linewidth=1.2, dashes=(3, 2))
        for curve in curves:
            axes.plot(curve.x, curve.y, color=SERIES[curve.colour], linewidth=1.3, alpha=0.75)
        for each in points:
            axes.plot(
                *(each.x, each.y, "o"),
                color=SERIES[each.colour],
                markersize=7 if each.is_ring else 4.5,
                markerfacecolor="none" if each.is_ring else SERIES[each.colour],
                markeredgewidth=1.6 if each.is_ring else 0,
                clip_on=False,
            )
        _set_ticks(axes)
        return inline(figure, name, described)


def _set_ticks(axes: Axes) -> None:
    """Put powers of ten under the figure, and plain numbers beside it."""
    low, high = axes.get_xlim()
    powers = range(floor(log10(low)) + 1, floor(log10(high)) + 1)
    axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axes.set_xticklabels([f"10{str(power).translate(_RAISED)}" for power in powers])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
