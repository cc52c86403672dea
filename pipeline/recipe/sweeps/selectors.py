"""What stands in the brackets of `$base[...]`: values of keys, `*`, `best: METRIC`; which it names.

`size=1M,tokens=4M` is one point, `*` all of them, `best: bits_per_byte` the one that its metric
chooses; `size=1M,*` and `size=1M,best: loss` are of those points only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.point_names import BEST, split_name
from pipeline.errors import closest
from pipeline.text.values import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.recipe.sweeps.points import Point, Sweep

_REFERENCE = re.compile(r"\$([A-Za-z0-9][A-Za-z0-9_.-]*)\[(.*)\]", re.DOTALL)
_BEST = re.compile(rf"{BEST}\s*[:=]\s*(?:(lowest|highest)\s+)?(\S.*)", re.DOTALL)
_SHOWN = 6  # names in an error


@dataclass(frozen=True)
class Selector:
    """What is asked of a sweep. filters: (key, value as text). metric: for the best one.

    direction: `lowest` or `highest` where it is written.
    """

    filters: tuple[tuple[str, str], ...]
    takes_all: bool = False
    metric: str | None = None
    direction: str | None = None


def split_reference(text: str) -> tuple[str, str] | None:
    """Return the stage and what stands in brackets of `$base[...]`; None for any other text."""
    match = _REFERENCE.fullmatch(text)
    return None if match is None else (match[1], match[2])


def parse_selector(text: str) -> Selector:
    """Read what stands in the brackets. ValueError (`what; what to do`) for anything else."""
    filters: list[tuple[str, str]] = []
    found: Selector | None = None
    for part in (part.strip() for part in text.split(",")):
        best = _BEST.fullmatch(part)
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if found is not None:
            raise ValueError(f"`{shorten(part)}` stands after what ends it; write values first")
        if part == "*":
            found = Selector((), takes_all=True)
        elif best is not None:
            found = Selector((), metric=" ".join(best[2].split()), direction=best[1])
        elif equals and key and value:
            filters.append((key, value))
        else:
            raise ValueError(
                f"`{shorten(part)}` names no stage of a sweep; "
                "write `key=value`, `*` or `best: METRIC`"
            )
    if found is None:
        return Selector(tuple(filters))
    return Selector(tuple(filters), found.takes_all, found.metric, found.direction)


def select(sweep: Sweep, selector: Selector) -> list[Point]:
    """Return the points that a selector is about, in order.

    ValueError (`what; what to do`) for a key or value that no point has, and where one is asked
    for and several are meant.
    """
    points = list(sweep.points)
    for key, value in selector.filters:
        points = _filter(sweep, points, key, value)
    is_one = not selector.takes_all and selector.metric is None
    if is_one and len(points) > 1:
        named = ",".join(f"{key}={value}" for key, value in selector.filters)
        raise ValueError(
            f"`[{shorten(named)}]` names {len(points)} stages of `{sweep.name}`; "
            f"write one of {name_points(points)}, or `[{named},*]` for all"
        )
    return points


def _filter(sweep: Sweep, points: Sequence[Point], key: str, value: str) -> list[Point]:
    short = sweep.keys.get(key, key)
    labels = dict.fromkeys(label for point in sweep.points for label in point.labels)
    if short not in labels:
        hint = closest(key, labels) or f"it has {', '.join(labels)}"
        raise ValueError(f"the sweep of `{sweep.name}` has no key `{shorten(key)}`; {hint}")
    kept = [point for point in points if _is_value(point, short, value)]
    if kept:
        return kept
    values = dict.fromkeys(point.labels[short] for point in points if short in point.labels)
    hint = closest(value, values) or f"there is {', '.join(values)}"
    raise ValueError(
        f"no stage of `{sweep.name}` has {short} {shorten(value)} with what stands before; {hint}"
        if len(points) < len(sweep.points)
        else f"no stage of `{sweep.name}` has {short} {shorten(value)}; {hint}"
    )


def _is_value(point: Point, short: str, value: str) -> bool:
    label = point.labels.get(short)
    return label is not None and (label == value or _same_number(label, value))


def _same_number(label: str, value: str) -> bool:
    """Whether both are one number, as `0.001` and `1e-3`."""
    try:
        return float(label) == float(value)
    except ValueError:
        return False


def name_points(points: Sequence[Point]) -> str:
    """Return the names of a few points, and how many more there are."""
    shown = ", ".join(f"`${point.name}`" for point in points[:_SHOWN])
    rest = len(points) - _SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def named_stages(text: str, sweeps: Mapping[str, Sweep]) -> list[str] | None:
    """Return the stages that a command line names: `base` is all of a sweep, `base[...]` as `$` is.

    None for what names no stage of a sweep. ValueError as `select` raises it.
    """
    if text in sweeps:
        return [point.name for point in sweeps[text].points]
    parts = split_reference(f"${text}")
    if parts is None or parts[0] not in sweeps:
        return None
    sweep, selector = sweeps[parts[0]], parse_selector(parts[1])
    if selector.metric is not None:
        return [best_name(sweep, selector)]
    return [point.name for point in select(sweep, selector)]


def best_name(sweep: Sweep, selector: Selector) -> str:
    """Return the name of the stage that chooses."""
    inner = [f"{sweep.keys.get(key, key)}={value}" for key, value in selector.filters]
    words = filter(None, (selector.direction, selector.metric))
    metric = re.sub(r"[^\w.+-]+", "-", " ".join(words))
    name = f"{sweep.name}[{','.join([*inner, f'{BEST}={metric}'])}]"
    assert split_name(name) is not None
    return name
