"""What a comparison pooled over seeds looks like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.report.terminal.full_comparison import (
    describe_asking,
    format_difference,
    format_score,
    heading,
    print_gate,
)
from pipeline.report.terminal.tables import Column, print_table
from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from eval.comparison.pool import PooledComparison, PooledRow, Spread


def print_pooled(name: str, pooled: PooledComparison, console: Console) -> None:
    """Print a pooled comparison: means over seeds, what each seed gave, intervals."""
    baseline, seeds = pooled.baseline, ", ".join(map(str, pooled.seeds))
    rows: list[Sequence[str] | str] = []
    last = None
    for row in pooled.rows:
        subject = (row.task, row.metric)
        if subject != last:
            rows.append(heading(row, baseline))
        last = subject
        score, delta = row.score, row.delta
        rows.append(
            (
                describe_asking(row),
                "/".join(str(n) for n in dict.fromkeys(row.n)),
                format_score(row, score.mean, score.low, score.high),
                _by_seed(row, score),
                format_difference(row, delta.mean, delta.low, delta.high) if delta else "",
            )
        )
    columns = (
        Column("model, asked by", is_text=True),
        Column("n", is_right=True),
        Column("score"),
        Column("each seed", is_text=True),
        Column(f"against the best of {escape(baseline)}"),
    )
    title = f"{escape(name)}: means over the seeds {seeds}, with 95% intervals over items"
    print_table(console, columns, rows, title=title)
    if pooled.gate is not None:
        print_gate(pooled.gate, console)


def _by_seed(row: PooledRow, score: Spread) -> str:
    """Return each seed's value, and between several seeds their range and deviation."""
    values = [format_score(row, value, None, None) for value in score.by_seed]
    in_order = " ".join(values)
    if score.deviation is None or len(set(values)) == 1:
        return in_order if len(values) == 1 else f"{values[0]} each"
    smallest, largest, deviation = (
        format_score(row, value, None, None)
        for value in (score.smallest, score.largest, score.deviation)
    )
    return f"{in_order} ({smallest}..{largest}, sd {deviation})"
