"""A comparison in a few lines of a terminal: scores by task and model, the mean, the verdict.

Everything else (each way of asking, p-values, flips) is compared.py's subject and the report's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.results import VERIFIED
from pipeline.report.board import board, rests_on, unguarded_losses
from pipeline.report.formatting import digits_of, metric_label
from pipeline.report.html.read import comparison_of
from pipeline.report.terminal.tables import Column, print_table
from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from eval.statistics.estimate import Estimate
    from pipeline.report.board import Board, ModelMean, TaskRow
    from pipeline.report.comparison import Comparison, Condition, GateVerdict, ScoreRow

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
    verdicts = comparison.gate.verdicts if comparison.gate else ()
    for rests, models in _by_conditions(verdicts).items():
        of = "" if len(models) == len(verdicts) else f" of {', '.join(models)}"
        console.print(f"SHIP{escape(of)} rests on {_ascii(rests)}", highlight=False)
    for verdict in verdicts:
        said = "[green]SHIP[/]" if verdict.ships else "[red]DO NOT SHIP[/]"
        parts = [f"fails {', '.join(map(_condition, verdict.failed))}"] if verdict.failed else []
        losses = unguarded_losses(verdict, comparison)
        if losses:
            parts.append(f"losses that no condition looks at: {_losses(losses)}")
        because = f": {'; '.join(parts)}" if parts else ""
        console.print(f"[bold]{escape(verdict.model)} {said}[/]{because}", highlight=False)


def _by_conditions(verdicts: Sequence[GateVerdict]) -> dict[str, list[str]]:
    """Return the candidates by what is asked of them, which is the same of all as a rule."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        found.setdefault(rests_on(verdict), []).append(verdict.model)
    return found


def _condition(condition: Condition) -> str:
    end = "" if condition.value is None else f" ({condition.value:+.3f})"
    return f"[red]{escape(condition.key)}{end}[/]"


def _losses(losses: Sequence[ScoreRow]) -> str:
    """Return the biggest losses, and how many more there are."""
    said = [
        f"{_subject(row.task, row.metric)} [red]{row.delta.value:+.{digits_of(row.metric)}f}[/]"
        for row in losses[:_SHOWN_LOSSES]
        if row.delta is not None
    ]
    more = len(losses) - len(said)
    return ", ".join(said) + (f" and {more} more" if more else "")


def _rows(found: Board) -> Iterator[tuple[str, ...]]:
    for task in found.tasks:
        yield (_subject(task.task, task.metric), *_cells(task, found))
    if found.means:
        label = f"[bold]mean of {found.num_meant} tasks[/]"
        yield (label, *(_mean_cell(mean) for mean in found.means))
    for task in found.texts:
        yield (_subject(task.task, task.metric), *_cells(task, found))
    if found.preferences:
        num = len(found.preferred)
        where = found.preferred[0].task if num == 1 else f"mean of {num} tasks"
        label = f"preferred to {found.baseline}'s, {where}"
        yield (escape(label), *(_preference(found.preferences.get(m)) for m in found.models))


def _subject(task: str, metric: str) -> str:
    """Return what was measured: the task alone where it is verified accuracy."""
    return escape(task if metric == VERIFIED else f"{task} ({metric_label(metric)})")


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
    said += f" [bold {colour}]{_signed(mean.delta.value)}[/]"
    return f"{said}\n[dim]{_interval(mean.delta, '+')}[/]"


def _signed(value: float) -> str:
    """Return a difference with its sign, which is a plus where it rounds to nothing."""
    said = f"{value:+.2f}"
    return "+0.00" if float(said) == 0 else said


def _preference(found: Estimate | None) -> str:
    if found is None:
        return ""
    side = found.side_of(0.5)
    colour = "green" if side > 0 else "red" if side else "default"
    return f"[{colour}]{found.value:.2f}[/]\n[dim]{_interval(found, '')}[/]"


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
