"""All of a comparison on a terminal: scores, what each style unlocks, the gate's verdict.

What a run ends with is comparison.py's subject. Groups, calibration and examples of flipped answers
take more room than a terminal has: they are in comparison.json and in the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.comparison.score_rows import Row
from pipeline.report.formatting import digits_of
from pipeline.report.terminal.tables import Column, print_table
from pipeline.text.visible import escape, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from eval.comparison.comparison import Comparison
    from eval.comparison.divergence_table import DivergenceRow
    from eval.comparison.gate import GateResult
    from eval.comparison.pool import PooledRow
    from eval.comparison.style_gains import Cell, StyleGains, StyleGainsRow

    AnyRow = Row | PooledRow | StyleGainsRow

_EXPLAINED = {
    "p": "p: adjusted for all of them",
    "right, wrong": "right, wrong: answers that became so",
    "finds": "finds: the difference that as many items show four times out of five",
}
_NAMES = {"win_rate": "win rate", "win_rate_equal_length": "win rate at equal length"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison: scores and differences with intervals, the other tables, notes."""
    _print_rows(comparison, console)
    _print_styles(comparison.styles, console)
    _print_divergence(comparison.divergence, console)
    for note in comparison.notes:
        console.print(f"[dim]{escape(note)}[/]")
    if comparison.gate is not None:
        print_gate(comparison.gate, console)


def print_gate(gate: GateResult, console: Console) -> None:
    """Print which candidates may ship, and each bound with what was found."""
    for verdict in gate.verdicts:
        decision = "[green]SHIP[/]" if verdict.ships else "[red]DO NOT SHIP[/]"
        console.print(f"[bold]{escape(verdict.model)}: {decision}[/]")
        for condition in verdict.conditions:
            mark = "[green]holds[/]" if condition.holds else "[red]fails[/]"
            bound = f"{condition.key} {condition.bound}: {condition.limit:g}"
            console.print(f"  {mark}  {escape(bound)}; {escape(condition.reason)}")


def heading(row: Row | PooledRow, baseline: str) -> str:
    """Return what the rows of a task and metric stand under."""
    metric = row.metric.replace("_", " ")
    if row.metric in _NAMES:
        metric = f"{_NAMES[row.metric]} over {baseline}"
    return f"[bold]{escape(row.task)}: {escape(metric)}[/]"


def describe_asking(row: Row | PooledRow) -> str:
    """Return which model was asked and how."""
    window = row.window if isinstance(row, Row) else 0
    return f"  {escape(row.model)}, {row.form}{_way(row.style, row.shots, window)}"


def format_score(row: AnyRow, value: float | None, low: float | None, high: float | None) -> str:
    """Return a score with its interval; of win rates green or red where that is clear of 0.5."""
    if value is None:
        return "-"
    digits = _digits(row)
    score = f"{value:.{digits}f}"
    if low is None or high is None:
        return score
    score += f" \\[{low:.{digits}f}, {high:.{digits}f}]"
    return _coloured(score, low - 0.5, high - 0.5) if row.metric in _NAMES else score


def format_difference(
    row: Row | PooledRow, value: float | None, low: float | None, high: float | None
) -> str:
    """Return a difference, green or red where its interval is clear of 0."""
    if value is None:
        return ""
    digits = _digits(row)
    change = f"{value:+.{digits}f}"
    if low is None or high is None:
        return change
    change += f" \\[{low:+.{digits}f}, {high:+.{digits}f}]"
    return _coloured(change, -high, -low) if row.lower_is_better else _coloured(change, low, high)


def _print_rows(comparison: Comparison, console: Console) -> None:
    baseline = comparison.baseline
    rows: list[Sequence[str] | str] = []
    last = None
    for row in comparison.rows:
        subject = (row.task, row.metric)
        if subject != last:
            rows.append(heading(row, baseline))
        last = subject
        delta = (row.delta, row.delta_low, row.delta_high)
        rows.append(
            (
                describe_asking(row),
                str(row.n),
                format_score(row, row.score, row.low, row.high),
                format_difference(row, *delta),
                *_more(row),
            )
        )
    columns = (
        Column("model, asked by", is_text=True),
        Column("n", is_right=True),
        Column("score"),
        Column(f"against the best of {visible(baseline)}"),
        Column("p", is_right=True, rank=1),
        Column("right, wrong", is_right=True, rank=2),
        Column("finds", is_right=True, rank=3),
        Column("tokens", is_right=True, rank=4),
    )
    hidden = print_table(console, columns, rows, title="95% intervals")
    explained = [text for name, text in _EXPLAINED.items() if name not in hidden]
    if explained and any(row.delta is not None for row in comparison.rows):
        console.print(f"[dim]{'; '.join(explained)}[/]", highlight=False)
    if hidden:
        console.print(f"[dim]no room for: {'; '.join(hidden)}[/]", highlight=False)


def _more(row: Row) -> Sequence[str]:
    """Return the figures that only a wide terminal has room for."""
    p, flips, detectable = row.p_adjusted, "", row.detectable
    if row.gained is not None:
        flips = f"+{row.gained} -{row.lost}"
    return (
        "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
        flips,
        "" if detectable is None else f"{detectable:.{_digits(row)}f}",
        "" if row.tokens is None else f"{row.tokens:.0f}",
    )


def _print_styles(styles: StyleGains, console: Console) -> None:
    """Print what each way of asking gets out of each model, a metric for each task."""
    metrics_by_task: dict[str, list[str]] = {}
    for row in styles.rows:
        metrics_by_task.setdefault(row.task, []).append(row.metric)
    if not metrics_by_task:
        return
    table: list[Sequence[str] | str] = []
    last = None
    for row in styles.rows:
        metrics = metrics_by_task[row.task]
        written = "verified_accuracy"
        if row.metric != (written if written in metrics else metrics[0]):
            continue
        if row.task != last:
            metric = escape(row.metric.replace("_", " "))
            table.append(f"[bold]{escape(row.task)}: {metric}[/]")
        last = row.task
        cells = [_unlocked(row, cell) for cell in row.cells]
        table.append((f"  {escape(row.model)}, {row.form}", *cells))
    columns = [
        Column("task, model", is_text=True),
        *(Column(_way(column.style, column.shots)[2:]) for column in styles.columns),
    ]
    print_table(console, columns, table, title="what each style unlocks (over zero-shot)")


def _unlocked(row: StyleGainsRow, cell: Cell | None) -> str:
    """Return a score and what it gains over zero-shot, green or red where that is clear of 0."""
    if cell is None:
        return ""
    score = format_score(row, cell.score, None, None)
    if cell.gain is None:
        return score
    gain = f"({cell.gain:+.2f})"
    if cell.gain_low is None or cell.gain_high is None:
        return f"{score} {gain}"
    return f"{score} {_coloured(gain, cell.gain_low, cell.gain_high)}"


def _print_divergence(rows: Sequence[DivergenceRow], console: Console) -> None:
    if not rows:
        return
    table: list[Sequence[str]] = []
    for row in rows:
        kl = f"{row.kl:.2f}"
        if row.low is not None:
            kl += f" \\[{row.low:.2f}, {row.high:.2f}]"
        table.append(
            (
                f"{escape(row.task)}, {escape(row.model)}{_way(row.style, row.shots)}",
                escape(row.trained_from),
                str(row.n),
                kl,
                f"{row.tokens:.0f}",
            )
        )
    columns = (
        Column("task, model", is_text=True),
        Column("from", is_text=True),
        Column("n", is_right=True),
        Column("KL"),
        Column("tokens", is_right=True, rank=1),
    )
    title = "divergence from what it was trained from, nats per response"
    print_table(console, columns, table, title=title)


def _way(style: str, shots: int | None, window: int = 0) -> str:
    """Return `, few-shot 3` and the like; nothing where nothing was asked."""
    if style == "none":
        return f", window {window}" if window else ""
    return f", {style} {shots}" if shots else f", {style}"


def _digits(row: AnyRow) -> int:
    return digits_of(row.metric)


def _coloured(text: str, low: float, high: float) -> str:
    """Colour what an interval says: green where all of it is a gain, red where all is a loss."""
    if low <= 0 <= high:
        return text
    return f"[{'green' if low > 0 else 'red'}]{text}[/]"
