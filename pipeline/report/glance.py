"""A comparison in a few lines of a terminal: scores by task and model, the mean, the verdict.

Everything else (each way of asking, p-values, flips) is compared.py's subject and the report's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.report.board import board, loss_text, rests_on, unguarded_losses
from pipeline.report.html.read import comparison_of
from pipeline.report.html.words import digits_of, metric_label
from pipeline.report.plain import escape
from pipeline.report.tables import Column, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from pipeline.report.board import Board, ModelMean, TaskRow
    from pipeline.report.html.comparison import Comparison, Estimate, ScoreRow

_COLOURS = {"gain": "green", "loss": "red"}
_SHOWN_LOSSES = 3
_PAIR = 2  # models


def print_glance(name: str, raw: Mapping[str, Any], console: Console) -> None:
    """Print what comparison.json says in one table and the verdict."""
    comparison = comparison_of(raw, name)
    found = board(comparison)
    columns = [Column("task", is_text=True), *(Column(escape(m)) for m in found.models)]
    title = f"{escape(name)}: each model asked in its best way, against {escape(found.baseline)}"
    print_table(console, columns, list(_rows(found)), title=title)
    for line in _footnotes(found):
        console.print(f"[dim]{line}[/]", highlight=False)
    print_verdicts(comparison, console)


def print_verdicts(comparison: Comparison, console: Console) -> None:
    """Print which candidates may ship, what that rests on, and the losses that it passes over."""
    for verdict in comparison.gate.verdicts if comparison.gate else ():
        said = "[green]SHIP[/]" if verdict.ships else "[red]DO NOT SHIP[/]"
        num = len(verdict.conditions)
        held = f"{num - len(verdict.failed)} of {num} conditions hold"
        console.print(
            f"[bold]{escape(verdict.model)}: {said}[/], {held} ({_ascii(rests_on(verdict))})",
            highlight=False,
        )
        for condition in verdict.failed:
            console.print(f"  [red]fails[/]  {_ascii(condition.reason)}", highlight=False)
        losses = unguarded_losses(verdict, comparison)
        for row in losses[:_SHOWN_LOSSES]:
            said = _ascii(loss_text(row, digits_of(row.metric)))
            console.print(f"  [yellow]lost, no condition looks at it[/]  {said}", highlight=False)
        if len(losses) > _SHOWN_LOSSES:
            console.print(f"  [yellow]and {len(losses) - _SHOWN_LOSSES} more losses[/]")


def _rows(found: Board) -> Iterator[tuple[str, ...]]:
    for task in found.tasks:
        is_usual = task.metric == "verified_accuracy"
        label = task.task if is_usual else f"{task.task}, {metric_label(task.metric)}"
        yield (escape(label), *_cells(task, found))
    if found.means:
        label = f"[bold]mean of {found.num_meant} tasks[/]"
        yield (label, *(_mean_cell(mean) for mean in found.means))
    for task in found.texts:
        label = f"{metric_label(task.metric)}, {task.task}"
        yield (escape(label), *_cells(task, found))
    for task in found.preferred:
        label = f"{task.task}: preferred to {found.baseline}'s"
        yield (escape(label), *(_preferred_cell(task, model) for model in found.models))


def _cells(task: TaskRow, found: Board) -> Iterator[str]:
    """Yield a score for each model, and the difference where its interval is clear of zero.

    Of two models there is room for every difference with its interval.
    """
    is_pair = len(found.models) == _PAIR
    for model in found.models:
        row = task.rows.get(model)
        if row is None or row.score is None:
            yield "-"
            continue
        digits = digits_of(row.metric)
        yield f"{row.score.value:.{digits}f}{_change(row, digits, is_pair=is_pair)}"


def _change(row: ScoreRow, digits: int, *, is_pair: bool) -> str:
    if row.delta is None or not (row.verdict or is_pair):
        return ""
    mark = "" if row.is_firm or not row.verdict else "*"
    colour = _COLOURS.get(row.verdict, "default")
    said = f" [{colour}]{row.delta.value:+.{digits}f}{mark}[/]"
    return f"{said} {_interval(row.delta, '+', digits)}" if is_pair else said


def _mean_cell(mean: ModelMean) -> str:
    said = f"[bold]{mean.score.value:.2f}[/]"
    if mean.delta is None:
        return f"{said}\n[dim]{_interval(mean.score, '')}[/]"
    colour = _COLOURS.get(mean.verdict, "default")
    said += f" [bold {colour}]{mean.delta.value:+.2f}[/]"
    return f"{said}\n[dim]{_interval(mean.delta, '+')}[/]"


def _preferred_cell(task: TaskRow, model: str) -> str:
    row = task.rows.get(model)
    if row is None or row.score is None:
        return ""
    said = f"{row.score.value:.2f} {_interval(row.score, '')}"
    return f"[{_COLOURS[row.verdict]}]{said}[/]" if row.verdict else said


def _interval(found: Estimate, sign: str, digits: int = 2) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"\\[{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def _footnotes(found: Board) -> Iterator[str]:
    rows = [row for task in (*found.tasks, *found.texts) for row in task.rows.values()]
    if any(row.verdict for row in rows) and len(found.models) != _PAIR:
        yield "+ and -: differences whose 95% interval is clear of 0"
    if any(row.verdict and not row.is_firm for row in rows):
        yield "*: not any more when p is adjusted for all differences that were tested (Holm)"


def _ascii(text: str) -> str:
    return escape(text.replace("\N{MINUS SIGN}", "-"))
