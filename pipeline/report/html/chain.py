"""Where the stages of a run stand in its picture: columns by what they are built on, and arrows.

Layers, invisible stations for arrows that pass a column, and barycentres against crossings
(Sugiyama, Tagawa, Toda 1981). Computes places; what a box looks like is the template's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from pipeline.report.point_rows import grids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.report.html.run_source import ReportedStage

WIDTH, HEIGHT = 147.0, 66.0
_GAP_X, _GAP_Y = 36.0, 18.0
_STATION = 10.0  # height of an arrow that passes a column
_MARGIN = 2.0
_SWEEPS = 8
# What is said of several stages: what is first here of what they are.
_BY_STATUS = ("running", "failed", "stopped", "missing", "ran", "resumed", "cached")


@dataclass(frozen=True)
class Box:
    """A stage at its place, or all of a sweep; x, y: its upper left corner.

    stage: of a sweep, its first under the sweep's name. places: of its stages among the run's.
    """

    stage: ReportedStage
    x: float
    y: float
    places: tuple[int, ...]


@dataclass(frozen=True)
class Arrow:
    """From one stage to another, as the `d` of an SVG path."""

    source: str
    target: str
    path: str


@dataclass(frozen=True)
class Picture:
    """The chain of a run."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass
class _Node:
    """A stage, or a station of an arrow that passes a column (`name` is "" then)."""

    name: str
    column: int
    before: list[_Node]
    after: list[_Node]
    y: float = 0.0  # of its middle

    @property
    def height(self) -> float:
        return HEIGHT if self.name else _STATION


def picture(stages: Sequence[ReportedStage]) -> Picture:
    """Return where each stage stands and how the arrows go; a sweep is one box."""
    places = _places(stages)
    stages = _as_boxes(stages, places)
    nodes = _nodes(stages)
    columns: list[list[_Node]] = [[] for _ in range(max(n.column for n in nodes.values()) + 1)]
    for node in nodes.values():
        columns[node.column].append(node)
    routes = [
        _route(nodes[other], nodes[stage.name], columns)
        for stage in stages
        for other in stage.inputs
    ]
    _arrange(columns)
    top = min(node.y - node.height / 2 for column in columns for node in column) - _MARGIN
    for column in columns:
        for node in column:
            node.y -= top
    boxes = tuple(
        Box(
            stage,
            _left(nodes[stage.name]),
            nodes[stage.name].y - HEIGHT / 2,
            tuple(places[stage.name]),
        )
        for stage in stages
    )
    return Picture(
        width=len(columns) * (WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN,
        height=max(n.y + n.height / 2 for column in columns for n in column) + _MARGIN,
        boxes=boxes,
        arrows=tuple(Arrow(route[0].name, route[-1].name, _path(route)) for route in routes),
    )


def _places(stages: Sequence[ReportedStage]) -> dict[str, list[int]]:
    """Return which stages a box stands for, by its name: one, or those of a sweep."""
    names = _box_names(stages)
    places: dict[str, list[int]] = {}
    for place, stage in enumerate(stages):
        places.setdefault(names[stage.name], []).append(place)
    return places


def _box_names(stages: Sequence[ReportedStage]) -> dict[str, str]:
    """Return the name of the box that each stage is in."""
    by_point = {name: grid for grid in grids(s.name for s in stages) for name in grid.points}
    return {
        stage.name: by_point[stage.name].title if stage.name in by_point else stage.name
        for stage in stages
    }


def _as_boxes(
    stages: Sequence[ReportedStage], places: Mapping[str, Sequence[int]]
) -> list[ReportedStage]:
    """Return a stage for each box, in an order in which each comes after what it is built on."""
    names = _box_names(stages)
    boxes: dict[str, ReportedStage] = {}
    for name, own in places.items():
        members = [stages[place] for place in own]
        if len(members) == 1:
            boxes[name] = replace(
                members[0], inputs=tuple(dict.fromkeys(names[i] for i in members[0].inputs))
            )
            continue
        inputs = dict.fromkeys(names[other] for each in members for other in each.inputs)
        worst = min(members, key=lambda each: _BY_STATUS.index(each.status))
        boxes[name] = replace(worst, name=name, inputs=tuple(inputs))
    ordered: dict[str, ReportedStage] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        begun.add(name)
        for other in boxes[name].inputs:
            if other not in begun:
                add(other)
        # a sweep may be built on a stage that is built on another of its own: no arrow back then
        inputs = tuple(other for other in boxes[name].inputs if other in ordered)
        ordered[name] = replace(boxes[name], inputs=inputs)

    for name in boxes:
        if name not in begun:
            add(name)
    return list(ordered.values())


def _nodes(stages: Sequence[ReportedStage]) -> dict[str, _Node]:
    """Return a node a stage; a stage's column comes after those of all it is built on."""
    column: dict[str, int] = {}
    for stage in stages:
        column[stage.name] = 1 + max((column[other] for other in stage.inputs), default=-1)
    return {name: _Node(name, number, [], []) for name, number in column.items()}


def _route(source: _Node, target: _Node, columns: Sequence[list[_Node]]) -> list[_Node]:
    """Link two nodes, through a station in each column between them."""
    route = [source]
    for number in range(source.column + 1, target.column):
        station = _Node("", number, [], [])
        columns[number].append(station)
        route.append(station)
    route.append(target)
    for left, right in pairwise(route):
        left.after.append(right)
        right.before.append(left)
    return route


def _arrange(columns: Sequence[list[_Node]]) -> None:
    """Order each column and set the heights, every node as near its neighbours as there is room."""
    for column in columns:
        _spread(column, {id(node): float(place) for place, node in enumerate(column)})
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        for column in columns if forwards else reversed(columns):
            wanted: dict[int, float] = {}
            for node in column:
                near = node.before if forwards else node.after
                wanted[id(node)] = fmean(other.y for other in near) if near else node.y
            column.sort(key=lambda node: wanted[id(node)])
            _spread(column, wanted)


def _spread(column: Sequence[_Node], wanted: Mapping[int, float]) -> None:
    """Put nodes at the heights they want, moved apart where they would touch, on average in place.

    Neighbours that would touch are put together as one, around the mean of what they want.
    """
    groups: list[list[_Node]] = []
    for node in column:
        groups.append([node])
        while len(groups) > 1 and _start(groups[-1], wanted) < _end(groups[-2], wanted):
            groups[-2:] = [[*groups[-2], *groups[-1]]]
    for group in groups:
        at = _start(group, wanted)
        for node in group:
            node.y = at + (node.height + _GAP_Y) / 2
            at += node.height + _GAP_Y


def _start(group: Sequence[_Node], wanted: Mapping[int, float]) -> float:
    """Return where a group begins so that its nodes are as near to their wish as can be."""
    offset, wishes = 0.0, []
    for node in group:
        wishes.append(wanted[id(node)] - offset - (node.height + _GAP_Y) / 2)
        offset += node.height + _GAP_Y
    return fmean(wishes)


def _end(group: Sequence[_Node], wanted: Mapping[int, float]) -> float:
    return _start(group, wanted) + sum(node.height + _GAP_Y for node in group)


def _left(node: _Node) -> float:
    return _MARGIN + node.column * (WIDTH + _GAP_X)


def _path(route: Sequence[_Node]) -> str:
    """Return curves from box to box, straight through the columns that are passed."""
    said = [f"M{_left(route[0]) + WIDTH:.1f} {route[0].y:.1f}"]
    for left, right in pairwise(route):
        start, end = _left(left) + WIDTH, _left(right)
        half = (start + end) / 2
        said.append(f"C{half:.1f} {left.y:.1f} {half:.1f} {right.y:.1f} {end:.1f} {right.y:.1f}")
        if not right.name:
            said.append(f"H{end + WIDTH:.1f}")
    return "".join(said)
