"""The lines below a comparison's table: what ships, what that rests on, losses it passes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from eval.results import VERIFIED
from pipeline.report.board import losses_of, rests_on, unguarded_losses
from pipeline.report.formatting import digits_of, metric_label
from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rich.console import Console

    from eval.comparison.gate import Condition, Verdict
    from eval.comparison.score_rows import Row
    from eval.statistics.estimate import Estimate
    from pipeline.report.comparison import StageComparison


def print_verdicts(
    comparison: StageComparison,
    preferences: Mapping[str, Estimate],
    console: Console,
    *,
    indent: str = "",
) -> None:
    """Print which candidates may ship, what that rests on, and the losses that it passes over.

    preferences: mean win rates over the baseline, by model.
    """
    verdicts = comparison.gate.verdicts if comparison.gate else ()
    for conditions, models in _models_by_conditions(verdicts).items():
        candidates = "" if len(models) == len(verdicts) else f" of {', '.join(models)}"
        line = f"{indent}SHIP{escape(candidates)} rests on {_with_ascii_minus(conditions)}"
        console.print(line, highlight=False)
    for verdict in verdicts:
        decision = "[green]SHIP[/]" if verdict.ships else "[red]DO NOT SHIP[/]"
        start = f"{indent}[bold]{escape(verdict.model)} {decision}[/]"
        if verdict.failed:
            start += f": fails {', '.join(map(_condition, verdict.failed))}"
        losses = [_loss(row) for row in unguarded_losses(verdict, comparison)]
        losses += _preferred_less(preferences.get(verdict.model))
        if losses:
            start += "; unguarded losses: "
        console.print(_fit(start, losses, console.width), highlight=False)


def print_unseen_losses(
    comparison: StageComparison,
    preferences: Mapping[str, Estimate],
    seen: Collection[tuple[str, str]],
    console: Console,
    *,
    indent: str = "",
) -> None:
    """Print, a line per candidate, its losses on a task and metric that no table has shown."""
    for model in comparison.candidates:
        losses = [_loss(row) for row in losses_of(model, comparison, seen)]
        losses += _preferred_less(preferences.get(model))
        if losses:
            start = f"{indent}{escape(model)} {'also loses' if seen else 'loses'}: "
            console.print(_fit(start, losses, console.width), highlight=False)


def _models_by_conditions(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Return the candidates by what is asked of them, as a rule the same of all."""
    models: dict[str, list[str]] = {}
    for verdict in verdicts:
        models.setdefault(rests_on(verdict), []).append(verdict.model)
    return models


def _condition(condition: Condition) -> str:
    end = "" if condition.value is None else f" ({condition.value:+.3f})"
    return f"[red]{escape(condition.key)}{end}[/]"


def _loss(row: Row) -> str:
    subject = row.task if row.metric == VERIFIED else f"{row.task} ({metric_label(row.metric)})"
    change = "" if row.delta is None else f"{row.delta:+.{digits_of(row.metric)}f}"
    return f"{escape(subject)} [red]{change}[/]"


def _preferred_less(rate: Estimate | None) -> list[str]:
    """Return that the baseline's answers are preferred on the whole, where they clearly are."""
    if rate is None or rate.side_of(0.5) >= 0:
        return []
    return [f"preferred in [red]{rate.value:.2f}[/] of pairs"]


def _fit(start: str, parts: Sequence[str], width: int) -> str:
    """Return a line with as many parts, one at least, as a terminal has room for, and a count."""
    for number in range(len(parts), 1, -1):
        more = len(parts) - number
        line = start + ", ".join(parts[:number]) + (f" and {more} more" if more else "")
        if Text.from_markup(line).cell_len <= width:
            return line
    more = len(parts) - 1
    return start + "".join(parts[:1]) + (f" and {more} more" if more > 0 else "")


def _with_ascii_minus(text: str) -> str:
    return escape(text.replace("\N{MINUS SIGN}", "-"))
