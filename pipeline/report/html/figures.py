"""Small figures as inline SVG that takes its colours from the page: drawn by Matplotlib, cleaned.

Numbers alone get into a figure: names, which others chose, stand beside it in the page. Styles
become attributes and classes: the page's content security policy allows no style attribute.
"""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET  # of what Matplotlib wrote, nothing else
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.html.palette import COLOURS
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

_WIDTH_PT, _HEIGHT_PT = 330.0, 186.0
WIDE_PT, TALL_PT = 420.0, 262.0
_WIDE_RANGE = 16  # the largest x over the least, from which on an axis goes in doublings
_AGES = 5  # shades that dots have by their time
_ROOT_TICKS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 10_000),
)
_DASHES = ((4, 2.5), (1.2, 1.8), (6, 2, 1.2, 2))
INK, _GRID = "#010101", "#020202"
SERIES = tuple(f"#1{number}0000" for number in range(COLOURS))
_CLASS = {INK: "ink", _GRID: "grid"} | {c: f"s{number}" for number, c in enumerate(SERIES)}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "posttrain",
    "font.size": 10.5,
    "axes.linewidth": 0.8,
    "path.simplify": True,
}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_KEPT = frozenset(
    (
        *("stroke-width", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap"),
        *("stroke-linejoin", "stroke-opacity", "fill-opacity", "opacity", "text-anchor"),
    )
)


@dataclass(frozen=True)
class Drawn:
    """A line: x and y of the same length; low and high likewise, or None without a band.

    colour: number of a series colour. dash: number of a pattern, 0 a whole line, by which lines are
    told apart that have one colour, or by whoever sees none.
    """

    colour: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] = field(default_factory=tuple[float, ...])
    high: Sequence[float | None] = field(default_factory=tuple[float, ...])
    dash: int = 0


def lines(
    name: str,
    drawn: Sequence[Drawn],
    *,
    described: str,
    unit: str,
    is_share: bool = False,
    with_points: bool = False,
    with_diagonal: bool = False,
    marks: Sequence[float] = (),
    falls: bool = False,
    is_geometric: bool = False,
    say_tick: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Return an SVG element of lines over x.

    name: unlike any other figure's of the page. described: what a screen reader says. unit: of x.
    is_share: y goes from 0 to 1. with_points: each x is marked and has its interval; where these
    are far apart, the axis goes in doublings. marks: x with an upright line, where something began
    or ends. falls: x falls to the right, where less is better. is_geometric: the points of x are
    far apart in any case. say_tick: what is written below them.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_PT / 72, _HEIGHT_PT / 72))
        axes = figure.add_axes((0.115, 0.19, 0.865, 0.76))
        frame(axes, unit)
        if with_diagonal:
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, dashes=(2, 3))
        for x in marks:
            axes.axvline(x, color=INK, linewidth=1.2, dashes=(3, 2))
        for line in drawn:
            _draw(axes, line, with_points=with_points)
        ticks = sorted({x for line in drawn for x in line.x})
        if with_points and not with_diagonal and (is_geometric or _are_far_apart(ticks)):
            _set_doublings(axes, ticks, say_tick)
        elif with_points and not with_diagonal and _fit_side_by_side(ticks):
            axes.set_xticks(ticks, [say_tick(x) for x in ticks])
        if is_share:
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        if falls:
            axes.invert_xaxis()
        return inline(figure, name, described)


def inline(figure: Figure, name: str, described: str) -> Markup:
    """Return a figure as an element of the page, under a name that no other figure has."""
    return _inlined(_written(figure), name, described)


def _written(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(
        written,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    return written.getvalue()


@dataclass(frozen=True)
class Marked:
    """Points of one kind; low and high as in Drawn. numbers: said beside each point."""

    colour: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] = field(default_factory=tuple[float, ...])
    high: Sequence[float | None] = field(default_factory=tuple[float, ...])
    numbers: Sequence[int] = field(default_factory=tuple[int, ...])


def path(
    name: str,
    dots: Drawn,
    way: Drawn,
    *,
    compared: Marked,
    final: Marked,
    described: str,
    unit: str,
) -> Markup:
    """Return an SVG element of a way through a plane over the root of x, which is near 0 at first.

    dots: in time, paler the earlier. way: means of stretches of them, a ring at its beginning.
    compared: a dashed curve through points with numbers. final: diamonds with intervals.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE_PT / 72, TALL_PT / 72))
        axes = figure.add_axes((0.095, 0.145, 0.885, 0.815))
        axes.set_xscale("function", functions=(_signed_root, _signed_square))
        frame(axes, unit)
        colour = SERIES[dots.colour % COLOURS]
        for age in range(_AGES):
            part = slice(len(dots.x) * age // _AGES, len(dots.x) * (age + 1) // _AGES)
            axes.plot(
                *(dots.x[part], dots.y[part], "o"),
                **{"color": colour, "markersize": 3.6, "markeredgewidth": 0, "clip_on": False},
                alpha=0.25 + 0.1 * age,
            )
        _draw(axes, way, with_points=False)
        axes.plot(
            *(way.x[:1], way.y[:1], "o"),
            **{"color": colour, "markerfacecolor": "none", "markersize": 6.5, "clip_on": False},
        )
        _draw_compared(axes, compared)
        _draw_final(axes, final)
        _set_root_ticks(axes)
        return inline(figure, name, described)


@dataclass(frozen=True)
class Lettered:
    """A point with a letter beside it. x, y: each a value with its ends, None where not known."""

    colour: int
    letter: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]


def scatter(
    name: str, points: Sequence[Lettered], *, compared: Marked, described: str, unit: str
) -> Markup:
    """Return an SVG element of points with their intervals over the root of x.

    compared: a dashed curve through points with numbers.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE_PT / 72, TALL_PT / 72))
        axes = figure.add_axes((0.095, 0.145, 0.885, 0.815))
        axes.set_xscale("function", functions=(_signed_root, _signed_square))
        frame(axes, unit)
        _draw_compared(axes, compared)
        for point in points:
            _draw_lettered(axes, point)
        axes.set_xlim(left=0)
        _set_root_ticks(axes)
        return inline(figure, name, described)


def _draw_lettered(axes: Axes, point: Lettered) -> None:
    colour = SERIES[point.colour % COLOURS]
    (x, left, right), (y, low, high) = point.x, point.y
    at = max(x, 0.0)  # an estimate of a KL may be below 0
    if left is not None and right is not None:
        ends = [max(left, 0.0), max(right, 0.0)]
        axes.plot(ends, [y, y], color=colour, linewidth=1.2, alpha=0.6, clip_on=False)
    if low is not None and high is not None:
        axes.plot([at, at], [low, high], color=colour, linewidth=1.6, clip_on=False)
    axes.plot([at], [y], "D", color=colour, markersize=7, markeredgewidth=0, clip_on=False)
    axes.annotate(
        point.letter,
        (at, y),
        xytext=(6, 5),
        textcoords="offset points",
        ha="left",
        fontsize=11,
        fontweight="bold",
        color=colour,
    )


def _signed_root(x: Any) -> Any:
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x: Any) -> Any:
    return np.sign(x) * np.square(x)


def _set_root_ticks(axes: Axes) -> None:
    """Put 0 and round numbers under a root axis, the largest first, while there is room."""
    low, high = (float(_signed_root(end)) for end in axes.get_xlim())
    chosen: list[float] = [0]
    for tick in reversed(_ROOT_TICKS):
        at = math.sqrt(tick)
        if at <= high and all(abs(math.sqrt(c) - at) > 0.09 * (high - low) for c in chosen):
            chosen.append(tick)
    axes.set_xticks(chosen, [f"{tick:g}" for tick in chosen])
    axes.set_xticks([], minor=True)


def _draw_compared(axes: Axes, compared: Marked) -> None:
    line = Drawn(compared.colour, compared.x, compared.y, compared.low, compared.high, dash=1)
    _draw(axes, line, with_points=True)
    for x, y, number in zip(compared.x, compared.y, compared.numbers, strict=True):
        axes.annotate(
            f"{number}",
            (x, y),
            xytext=(5, -11),
            textcoords="offset points",
            ha="left",
            fontsize=9,
            color=SERIES[compared.colour % COLOURS],
        )


def _draw_final(axes: Axes, final: Marked) -> None:
    colour = SERIES[final.colour % COLOURS]
    for x, low, high in zip(final.x, final.low, final.high, strict=False):
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1.6, clip_on=False)
    axes.plot(final.x, final.y, "D", color=colour, markersize=7, markeredgewidth=0, clip_on=False)


def frame(axes: Axes, unit: str) -> None:
    """Draw axes as all figures have them. unit: of x."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK, pad=5)
    axes.set_xlabel(unit, color=INK, labelpad=4)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.02, y=0.08)


def _are_far_apart(ticks: Sequence[float]) -> bool:
    return len(ticks) > 3 and ticks[0] > 0 and ticks[-1] >= _WIDE_RANGE * ticks[0]


def _set_doublings(axes: Axes, ticks: Sequence[float], say_tick: Callable[[float], str]) -> None:
    """Give each doubling of x the same room; number points that have some, the largest first."""
    axes.set_xscale("log", base=2)
    least = 0.09 * math.log2(ticks[-1] / ticks[0])
    shown = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if math.log2(shown[-1] / tick) >= least:
            shown.append(tick)
    axes.set_xticks(shown, [say_tick(tick) for tick in shown])
    axes.set_xticks([], minor=True)


def _fit_side_by_side(ticks: Sequence[float]) -> bool:
    least = 0.07 * (ticks[-1] - ticks[0])
    return all(right - left >= least for left, right in pairwise(ticks))


def _draw(axes: Axes, line: Drawn, *, with_points: bool) -> None:
    colour = SERIES[line.colour % COLOURS]
    (drawn,) = axes.plot(
        line.x, line.y, color=colour, linewidth=1.6, solid_capstyle="round", clip_on=False
    )
    if line.dash:
        drawn.set_dashes(_DASHES[(line.dash - 1) % len(_DASHES)])
    if not with_points:
        return
    axes.plot(line.x, line.y, "o", color=colour, markersize=4.5, markeredgewidth=0, clip_on=False)
    for x, low, high in zip(line.x, line.low, line.high, strict=False):
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1.1, alpha=0.55, clip_on=False)


def _inlined(text: str, name: str, described: str) -> Markup:
    """Return Matplotlib's SVG as an element of the page."""
    root = ET.fromstring(text)
    used = set(re.findall(r"""(?:url\(|href=")#([\w-]+)""", text))
    for element in list(root.iter()):
        for child in list(element):
            is_empty_group = child.tag == f"{_SVG}g" and not len(child)
            if is_empty_group or child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                element.remove(child)
    for element in root.iter():
        _clean(element, name, used)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"class": "figure", "viewBox": box, "role": "img"})
    root.set("aria-label", visible(described))  # names of groups, rewards and models stand in it
    return Markup(ET.tostring(root, encoding="unicode"))


def _clean(element: ET.Element, name: str, used: set[str]) -> None:
    """Turn styles into attributes and classes, keep ids that are referred to, under our name."""
    element.tag = element.tag.removeprefix(_SVG)
    element.text = visible((element.text or "").strip())
    element.tail = ""
    style = element.attrib.pop("style", "")
    declared = dict(re.findall(r"([\w-]+):\s*([^;]+)", style))
    classes: list[str] = []
    for key in ("fill", "stroke"):
        value = declared.get(key)
        if value in _CLASS:
            classes.append(f"{key[0]}-{_CLASS[value]}")
        elif value is not None:
            element.set(key, value)
    if classes:
        element.set("class", " ".join(classes))
    for key, value in declared.items():
        if key in _KEPT:
            element.set(key, value)
    known = element.attrib.pop("id", None)
    if known in used:
        element.set("id", f"{name}-{known}")
    reference = element.attrib.pop(f"{_XLINK}href", None)
    if reference:
        element.set("href", f"#{name}-{reference.removeprefix('#')}")
    clip = element.get("clip-path")
    if clip:
        element.set("clip-path", clip.replace("url(#", f"url(#{name}-"))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("d", "x", "y", "transform"):
        value = element.get(key)
        if value:
            said = re.sub(r"-?\d+\.\d+", _rounded, value)
            element.set(key, re.sub(r"\s+", " ", said).strip())


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
