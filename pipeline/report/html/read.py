"""Reads comparison.json and its pooled form into the dataclasses of comparison.py.

Files of compare version 2 (no shots, no tables beside `rows`) are read as well.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from eval.comparison.gate import resolve
from eval.statistics.estimate import Estimate
from pipeline.commands.export import without_places
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import COMPARISON
from pipeline.report.comparison import (
    Chart,
    Comparison,
    Condition,
    Divergence,
    Gate,
    GateVerdict,
    GroupRow,
    Line,
    ScoreRow,
    StyleCell,
    StyleRow,
    asking_label,
    best_ways,
)
from pipeline.report.formatting import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def read_comparison(
    folder: Path, stage: str, *, pooled: Mapping[str, Any] | None = None
) -> Comparison:
    """Return the comparison in a stage's folder; CorruptArtifactError for one that is not whole.

    pooled: what `--seeds` wrote for this stage.
    """
    path = folder / COMPARISON
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return comparison_of(raw, stage, pooled=pooled)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error


def comparison_of(
    raw: Mapping[str, Any], stage: str, *, pooled: Mapping[str, Any] | None = None
) -> Comparison:
    """Return what comparison.json says; raises as a look into a dict does where it is not whole."""
    rows = tuple(_row(row) for row in raw["rows"])
    best = {(row.task, row.metric, row.model): row.asked for row in best_ways(rows)}
    styles = raw.get("styles") or {"columns": [], "rows": []}
    style_rows = tuple(_style_row(row) for row in styles["rows"])
    groups = [row for row in raw.get("groups") or [] if _asked(row) == best.get(_subject_key(row))]
    calibration = [
        row
        for row in raw.get("calibration") or []
        if _asked(row) == best.get(_subject_key({"metric": "choice_accuracy", **row}))
    ]
    return Comparison(
        stage=stage,
        baseline=_name(raw["baseline"]),
        models=tuple(_name(model) for model in raw["models"]),
        rows=rows,
        pooled=tuple(_pooled_row(row) for row in pooled["rows"]) if pooled else (),
        seeds=tuple(pooled["seeds"]) if pooled else (),
        style_columns=tuple(asking_label(c["style"], c["shots"]) for c in styles["columns"]),
        style_rows=style_rows,
        sweeps=_sweeps(styles["columns"], style_rows),
        group_curves=_group_curves(groups),
        group_rows=tuple(_group_row(row) for row in groups if not _is_numeric(groups, row)),
        calibration=_calibration(calibration),
        divergence=tuple(_divergence(row) for row in raw.get("divergence") or []),
        notes=tuple(str(note) for note in raw.get("notes") or []),
        gate=_gate(raw["gate"], rows) if raw.get("gate") else None,
    )


def _asked(row: Mapping[str, Any]) -> str:
    return asking_label(row["style"], row.get("shots"))


def _subject_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return _name(row["task"]), str(row["metric"]), _name(row["model"])


def _name(value: Any) -> str:
    return str(without_places(str(value)))


def _estimate(row: Mapping[str, Any], key: str, prefix: str = "") -> Estimate | None:
    value = row[key]
    return None if value is None else Estimate(value, row[f"{prefix}low"], row[f"{prefix}high"])


def _spread(found: Mapping[str, Any] | None) -> Estimate | None:
    """Return a figure pooled over seeds."""
    if found is None or found["mean"] is None:
        return None
    return Estimate(found["mean"], found["low"], found["high"], tuple(found["by_seed"]))


def _row(row: Mapping[str, Any]) -> ScoreRow:
    against = row["against"]
    return ScoreRow(
        **_subject(row),
        n=row["n"],
        ungraded=row["ungraded"],
        score=_estimate(row, "score"),
        delta=_estimate(row, "delta", "delta_"),
        against=asking_label(against, row.get("against_shots")) if against else "",
        p_adjusted=row.get("p_adjusted"),
        gained=row.get("gained"),
        lost=row.get("lost"),
        detectable=row.get("detectable"),
        tokens=row.get("tokens"),
        window=row.get("window", 0),
    )


def _pooled_row(row: Mapping[str, Any]) -> ScoreRow:
    against = list(dict.fromkeys(style for style in row["against"] if style))
    return ScoreRow(
        **_subject(row),
        n=min(row["n"]),
        ungraded=max(row["ungraded"]),
        score=_spread(row["score"]),
        delta=_spread(row["delta"]),
        against=" or ".join(asking_label(style, None) for style in against),
        p_adjusted=None,
        gained=None,
        lost=None,
        detectable=None,
        tokens=None,
    )


def _subject(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": _name(row["task"]),
        "metric": str(row["metric"]),
        "model": _name(row["model"]),
        "style": str(row["style"]),
        "shots": row.get("shots"),
        "form": str(row["form"]),
        "samples": row.get("samples", 1),
        "lower_is_better": row.get("lower_is_better", row["metric"] == "bits_per_byte"),
    }


def _style_row(row: Mapping[str, Any]) -> StyleRow:
    cells = (
        None
        if cell is None
        else StyleCell(cell["shots"], _estimate(cell, "score"), _estimate(cell, "gain", "gain_"))
        for cell in row["cells"]
    )
    return StyleRow(
        _name(row["task"]), str(row["metric"]), _name(row["model"]), str(row["form"]), tuple(cells)
    )


def _sweeps(columns: Sequence[Mapping[str, Any]], rows: Sequence[StyleRow]) -> tuple[Chart, ...]:
    """Return score against demonstrations shown, where three numbers of them or more were tried."""
    charts: list[Chart] = []
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        lines: list[Line] = []
        for row in (row for row in rows if (row.task, row.metric) == (task, metric)):
            points = [
                (float(cell.shots), cell.score)
                for column, cell in zip(columns, row.cells, strict=True)
                if cell is not None and cell.shots is not None and cell.score is not None
                if column["style"] in ("zero-shot", "few-shot")
            ]
            if len(points) > 2:
                lines.append(_line(row.model, points))
        if lines:
            charts.append(Chart(task, metric, "demonstrations in the prompt", tuple(lines)))
    return tuple(charts)


def _line(model: str, points: Sequence[tuple[float, Estimate]], *, note: str = "") -> Line:
    ordered = sorted(points, key=lambda point: point[0])
    return Line(model, tuple(x for x, _ in ordered), tuple(found for _, found in ordered), note)


def _is_numeric(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> bool:
    """Whether all groups of a row's task are numbers, three of them at least: a curve then."""
    names = {str(other["group"]) for other in rows if other["task"] == row["task"]}
    return len(names) > 2 and all(_NUMBER.fullmatch(name) for name in names)


def _group_curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """Return score against group, each model asked in its best way: a chart a task and metric."""
    numeric = [row for row in rows if _is_numeric(rows, row)]
    charts: list[Chart] = []
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in numeric):
        own = [row for row in numeric if (row["task"], row["metric"]) == (task, metric)]
        lines: list[Line] = []
        for model in dict.fromkeys(row["model"] for row in own):
            asked = [row for row in own if row["model"] == model]
            points = [
                (float(row["group"]), found)
                for row in asked
                if (found := _estimate(row, "score")) is not None
            ]
            if points:
                lines.append(_line(_name(model), points, note=_asked(asked[0])))
        charts.append(Chart(_name(task), str(metric), "group", tuple(lines)))
    return tuple(charts)


def _group_row(row: Mapping[str, Any]) -> GroupRow:
    return GroupRow(
        *_subject_key(row), _asked(row), str(row["group"]), row["n"], _estimate(row, "score")
    )


def _calibration(rows: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """Return how often the models were right, by how sure they were: a chart a task."""
    charts: list[Chart] = []
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = tuple(
            _line(
                _name(row["model"]),
                [(each["confidence"], Estimate(each["accuracy"])) for each in row["bins"]],
                note=number(row["error"]),
            )
            for row in rows
            if row["task"] == task and row["bins"]
        )
        note = "with the expected calibration error"
        charts.append(Chart(_name(task), note, "confidence", lines))
    return tuple(charts)


def _divergence(row: Mapping[str, Any]) -> Divergence:
    found = Estimate(row["kl"], row["low"], row["high"])
    return Divergence(
        _name(row["task"]),
        _name(row["model"]),
        _name(row["trained_from"]),
        found,
        row["tokens"],
        row["n"],
    )


def _gate(raw: Mapping[str, Any], rows: Sequence[ScoreRow]) -> Gate:
    metrics_by_task: dict[str, list[str]] = {}
    for row in rows:
        metrics_by_task.setdefault(row.task, []).append(row.metric)
    return Gate(
        bool(raw["ships"]),
        tuple(
            GateVerdict(
                _name(verdict["model"]),
                bool(verdict["ships"]),
                tuple(_condition(each, metrics_by_task) for each in verdict["conditions"]),
            )
            for verdict in raw["verdicts"]
        ),
    )


def _condition(raw: Mapping[str, Any], metrics_by_task: Mapping[str, Sequence[str]]) -> Condition:
    key = _name(raw["key"])
    return Condition(
        key=key,
        bound=str(raw["bound"]),
        limit=float(raw["limit"]),
        value=raw.get("value"),
        task=resolve(key, metrics_by_task).task,
        metric=str(raw["metric"]),
        holds=bool(raw["holds"]),
        reason=str(raw["reason"]),
    )
