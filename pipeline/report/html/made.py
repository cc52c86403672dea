"""Rows that stages made as the report shows them: counts, what was left out, scores, examples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from pipeline.commands.export import without_places
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ROWS_SUMMARY
from pipeline.report.formatting import short
from pipeline.report.html.samples import cut
from pipeline.report.made_rows import (
    KIND,
    describe_made,
    is_loss_worth_a_warning,
    made_headline,
)
from pipeline.store.store import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.report.html.run_source import ReportedRun, ReportedStage

_SHOWN = 3
_WIDTH, _HEIGHT, _GAP = 300.0, 90.0, 2.0
_TEXTS = ("prompt", "completion", "chosen", "rejected")
_BESIDE = ("source", "score", "score_chosen", "score_rejected", "label", "finish", "out_of")


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in SVG units. label: what it counts."""

    x: float
    y: float
    width: float
    height: float
    label: str
    count: int


@dataclass(frozen=True)
class Histogram:
    """Scores of the responses. low, high: the ends of the axis, as texts."""

    bars: tuple[Bar, ...]
    low: str
    high: str
    width: float = _WIDTH
    height: float = _HEIGHT


@dataclass(frozen=True)
class Example:
    """A row: what is said beside it, and its texts with their names."""

    beside: str
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MadeRows:
    """A stage that made rows. account: what was left out; is_warning: whether that is much."""

    stage: str
    kind: str
    headline: str
    columns: tuple[str, ...]
    num_rows: int
    account: str
    is_warning: bool
    histogram: Histogram | None
    examples: tuple[Example, ...]


def made_rows(run: ReportedRun) -> tuple[MadeRows, ...]:
    """Return the finished stages that made rows, in order."""
    return tuple(
        _made(stage)
        for stage in run.present
        if stage.artifact is not None
        and stage.artifact.produces == KIND
        and ROWS_SUMMARY in stage.artifact.files
    )


def _made(stage: ReportedStage) -> MadeRows:
    assert stage.artifact is not None
    summary = read_json(stage.artifact, ROWS_SUMMARY)
    try:
        return MadeRows(
            stage=stage.name,
            kind=stage.kind,
            headline=made_headline(stage.metrics),
            columns=tuple(map(str, summary["columns"])),
            num_rows=int(summary["rows"]),
            account=describe_made(stage.metrics),
            is_warning=is_loss_worth_a_warning(stage.metrics),
            histogram=_histogram(summary["histogram"]) if "histogram" in summary else None,
            examples=tuple(_example(row) for row in summary["shown"][:_SHOWN]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        path = str(stage.artifact.path / ROWS_SUMMARY)
        raise CorruptArtifactError(path, f"is not readable ({error})") from error


def _histogram(counted: Mapping[str, Any]) -> Histogram:
    counts = [int(count) for count in counted["counts"]]
    if "values" in counted:
        values = [float(value) for value in counted["values"]]
        labels, low, high = [short(value) for value in values], values[0], values[-1]
    else:
        edges = [float(edge) for edge in counted["edges"]]
        pairs = pairwise(edges)
        labels = [f"{short(left)} to {short(right)}" for left, right in pairs]
        low, high = edges[0], edges[-1]
    step, most = _WIDTH / len(counts), max(counts)
    bars = tuple(
        Bar(
            x=round(number * step + _GAP / 2, 1),
            y=round(_HEIGHT * (1 - count / most), 1),
            width=round(step - _GAP, 1),
            height=round(_HEIGHT * count / most, 1),
            label=labels[number],
            count=count,
        )
        for number, count in enumerate(counts)
    )
    return Histogram(bars, short(low), short(high) if high != low else "")


def _example(row: Mapping[str, Any]) -> Example:
    beside = [
        f"{name} {short(value) if isinstance(value, float) else without_places(value)}"
        for name in _BESIDE
        if (value := row.get(name)) is not None
    ]
    texts = tuple((name, cut(_text(row[name]))) for name in _TEXTS if name in row)
    return Example(", ".join(beside), texts)


def _text(value: Any) -> str:
    """Return a prompt or a response as a text: turns one below the other."""
    if isinstance(value, str):
        return value
    turns = cast("list[dict[str, Any]]", value)
    if len(turns) == 1:
        return str(turns[0].get("content") or "")
    return "\n".join(f"{turn.get('role')}: {turn.get('content') or ''}" for turn in turns)
