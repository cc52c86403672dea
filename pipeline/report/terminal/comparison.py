"""A comparison in one table: scores by task and model, their means, the differences that are clear.

`print_scores` is what a run ends with, `print_overview` what `posttrain compare` says without
`--full`. The lines below the table are verdicts.py's subject; every way of asking, p-values and
flips are full_comparison.py's and the report's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.results import VERIFIED
from pipeline.report.board import board
from pipeline.report.formatting import digits_of, metric_label
from pipeline.report.terminal.tables import Column, fits_unwrapped, has_room, print_table
from pipeline.report.terminal.verdicts import print_unseen_losses, print_verdicts
from pipeline.text.visible import escape, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from eval.comparison.score_rows import Row
    from eval.statistics.estimate import Estimate
    from pipeline.report.board import Board, ModelMean, TaskRow
    from pipeline.report.comparison import StageComparison

_COLOURS = {"gain": "green", "loss": "red"}
_PAIR = 2  # models


def print_comparisons(comparisons: Sequence[StageComparison], console: Console) -> None:
    """Print a run's comparisons: a table of the main one, a line and the verdict of each other.

    The main one is the first with a gate, else the first with the most models and tasks.
    """
    if not comparisons:
        return
    main = max(comparisons, key=_weight)
    print_scores(main, console)
    for comparison in comparisons:
        if comparison is not main:
            print_in_a_line(comparison, console)


def _weight(comparison: StageComparison) -> tuple[bool, int, int]:
    tasks = {row.task for row in comparison.told}
    return comparison.gate is not None, len(comparison.models), len(tasks)


def print_scores(comparison: StageComparison, console: Console) -> None:
    """Print the tasks with their mean, and the verdict: what a run ends with.

    Where there are tasks, of texts and win rates only a model's losses are told, in a line.
    """
    shown = board(comparison)
    tasks = shown.tasks or shown.texts
    _print_board(comparison, shown, tasks, console, has_preferences=not tasks)
    print_verdicts(comparison, shown.preferences, console)
    if comparison.gate is None:
        subjects = {(row.task, row.metric) for row in tasks}
        print_unseen_losses(comparison, shown.preferences, subjects, console)


def print_overview(comparison: StageComparison, console: Console) -> None:
    """Print tasks, texts and mean win rates, and the verdict."""
    shown = board(comparison)
    tasks = (*shown.tasks, *shown.texts)
    _print_board(comparison, shown, tasks, console, has_preferences=True)
    print_verdicts(comparison, shown.preferences, console)


def print_in_a_line(comparison: StageComparison, console: Console) -> None:
    """Print the mean of each model, or its score on the only task, of a comparison beside others.

    Its verdicts follow where it has a gate, else the losses, since no table shows them.
    """
    shown = board(comparison)
    against = f"{escape(comparison.stage)} (against {escape(shown.baseline)})"
    console.print(f"{against}: {_summary(shown)}", highlight=False)
    if comparison.gate is None:
        print_unseen_losses(comparison, shown.preferences, set(), console, indent="  ")
    else:
        print_verdicts(comparison, shown.preferences, console, indent="  ")


def _summary(shown: Board) -> str:
    """Return `mean of 3 tasks dpo 0.61 +0.05, ppo 0.69 +0.13` and the like."""
    if shown.means:
        scores = [f"{escape(mean.model)} {_mean_score(mean)}" for mean in shown.means if mean.delta]
        return f"mean of {shown.num_meant} tasks {', '.join(scores)}"
    subjects = (*shown.tasks, *shown.texts)
    if not subjects and shown.preferences:
        rates = [f"{escape(model)} {_win_rate(rate)}" for model, rate in shown.preferences.items()]
        return f"preferred to {escape(shown.baseline)}'s {', '.join(rates)}"
    parts: list[str] = []
    for task in subjects[:1]:
        scores = [
            f"{escape(model)} {_score(row, is_pair=False)}"
            for model, row in task.rows.items()
            if row.score is not None and model != shown.baseline
        ]
        parts.append(f"{_subject(task.task, task.metric)} {', '.join(scores)}")
    more = len(subjects) - len(parts)
    return "; ".join(parts) + (f"; {more} more" if more else "") if parts else "nothing scored"


def _print_board(
    comparison: StageComparison,
    shown: Board,
    tasks: Sequence[TaskRow],
    console: Console,
    *,
    has_preferences: bool,
) -> None:
    """Print the table under its title, and what the marks in it mean."""
    subtitle = f"each model asked in its best way, against {escape(shown.baseline)}"
    if comparison.seeds:
        subtitle = f"means over the seeds {', '.join(map(str, comparison.seeds))}; {subtitle}"
    columns = [Column("task", is_text=True), *(Column(visible(m)) for m in shown.models)]
    rows = list(_rows(shown, tasks, has_intervals=True, has_preferences=has_preferences))
    narrow = list(_rows(shown, tasks, has_intervals=False, has_preferences=has_preferences))
    is_narrow = not fits_unwrapped(console, columns, rows) and (
        fits_unwrapped(console, columns, narrow) or not has_room(console, columns, rows)
    )
    title = f"{escape(comparison.stage)}: {subtitle}"
    print_table(console, columns, narrow if is_narrow else rows, title=title)
    if is_narrow:
        _print_intervals(shown, console, has_preferences=has_preferences)
    if notes := list(_footnotes(tasks, num_models=len(shown.models))):
        console.print(f"[dim]{'; '.join(notes)}[/]", highlight=False)


def _rows(
    shown: Board, tasks: Sequence[TaskRow], *, has_intervals: bool, has_preferences: bool
) -> Iterator[tuple[str, ...]]:
    """Yield the cells: tasks, their mean, texts, win rates; has_intervals: below mean and rates."""
    for task in (task for task in tasks if task not in shown.texts):
        yield (_subject(task.task, task.metric), *_cells(task, shown))
    if shown.means:
        label = f"[bold]mean of {shown.num_meant} tasks[/]"
        yield (label, *(_mean_cell(mean, has_interval=has_intervals) for mean in shown.means))
    for task in (task for task in tasks if task in shown.texts):
        yield (_subject(task.task, task.metric), *_cells(task, shown))
    if shown.preferences and has_preferences:
        rates = [shown.preferences.get(model) for model in shown.models]
        cells = [
            "" if rate is None else _below(_win_rate(rate), rate, "", has_interval=has_intervals)
            for rate in rates
        ]
        yield (_preference_label(shown), *cells)


def _preference_label(shown: Board) -> str:
    num = len(shown.preferred)
    where = shown.preferred[0].task if num == 1 else f"mean of {num} tasks"
    return escape(f"preferred to {shown.baseline}'s, {where}")


def _subject(task: str, metric: str) -> str:
    """Return what was measured: the task alone where it is verified accuracy."""
    return escape(task if metric == VERIFIED else f"{task} ({metric_label(metric)})")


def _cells(task: TaskRow, shown: Board) -> Iterator[str]:
    """Yield a score for each model, and the difference where its interval is clear of zero.

    Between two models there is room for every difference with its interval.
    """
    for model in shown.models:
        row = task.rows.get(model)
        is_pair = len(shown.models) == _PAIR
        yield "-" if row is None or row.score is None else _score(row, is_pair=is_pair)


def _score(row: Row, *, is_pair: bool) -> str:
    assert row.score is not None
    digits = digits_of(row.metric)
    return f"{row.score:.{digits}f}{_change(row, digits, is_pair=is_pair)}"


def _change(row: Row, digits: int, *, is_pair: bool) -> str:
    if row.delta is None or not (row.verdict or is_pair):
        return ""
    mark = "" if row.is_firm or not row.verdict else "*"
    colour = _COLOURS.get(row.verdict, "default")
    change = f" [{colour}]{row.delta:+.{digits}f}{mark}[/]"
    return f"{change} {_interval(row.difference, '+', digits)}" if is_pair else change


def _mean_cell(mean: ModelMean, *, has_interval: bool) -> str:
    bounded, sign = (mean.score, "") if mean.delta is None else (mean.delta, "+")
    return _below(f"[bold]{_mean_score(mean)}[/]", bounded, sign, has_interval=has_interval)


def _mean_score(mean: ModelMean) -> str:
    if mean.delta is None:
        return f"{mean.score.value:.2f}"
    colour = _COLOURS.get(mean.verdict, "default")
    return f"{mean.score.value:.2f} [{colour}]{_signed(mean.delta.value)}[/]"


def _win_rate(rate: Estimate) -> str:
    side = rate.side_of(0.5)
    colour = "green" if side > 0 else "red" if side else "default"
    return f"[{colour}]{rate.value:.2f}[/]"


def _below(cell: str, estimate: Estimate, sign: str, *, has_interval: bool) -> str:
    """Return a cell with the interval in a second line, where there is one and room for it."""
    return f"{cell}\n[dim]{_interval(estimate, sign)}[/]" if has_interval else cell


def _signed(value: float) -> str:
    """Return a difference with its sign, which is a plus where it rounds to nothing."""
    text = f"{value:+.2f}"
    return "+0.00" if float(text) == 0 else text


def _interval(estimate: Estimate | None, sign: str, digits: int = 2) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"\\[{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def _print_intervals(shown: Board, console: Console, *, has_preferences: bool) -> None:
    """Print below a table without room for them the intervals that would stand in it."""
    deltas = {mean.model: mean.delta for mean in shown.means if mean.delta is not None}
    intervals = [f"{escape(m)} {_interval(delta, '+')}" for m, delta in deltas.items()]
    if intervals:
        console.print(f"[dim]mean differences: {', '.join(intervals)}[/]", highlight=False)
    rates = [f"{escape(m)} {_interval(rate, '')}" for m, rate in shown.preferences.items()]
    if rates and has_preferences:
        console.print(f"[dim]preferred: {', '.join(rates)}[/]", highlight=False)


def _footnotes(tasks: Sequence[TaskRow], *, num_models: int) -> Iterator[str]:
    rows = [row for task in tasks for row in task.rows.values()]
    if any(row.verdict for row in rows) and num_models != _PAIR:
        yield "+, -: 95% interval clear of 0"
    if any(row.verdict and not row.is_firm for row in rows):
        yield "*: not after correction for all tests (Holm)"
