"""A comparison in one screen: scores by task and model, their mean, what a gate rests on.

The terminal's table and the report's forest plot show this; prints and draws nothing. A task is
told by one metric, its verified accuracy if it has one; every other row is in the full tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.comparison.gate import resolve
from eval.comparison.score_rows import pick_best_rows
from eval.results import REWARD, VERIFIED
from eval.statistics.task_mean import mean_over_tasks
from pipeline.report.formatting import estimate, metric_label, number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from eval.comparison.gate import Verdict
    from eval.comparison.score_rows import Change, Row
    from eval.statistics.estimate import Estimate
    from pipeline.report.comparison import StageComparison

_BOUNDS = {
    "delta_low": "difference at least",
    "delta_high": "difference at most",
    "score_low": "score at least",
    "score_high": "score at most",
    "win_rate_low": "win rate at least",
    "clear_loss": "a loss clear of chance at most",
}


@dataclass(frozen=True)
class TaskRow:
    """What models score on a task by one metric, each asked in its best way; by model."""

    task: str
    metric: str
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class ModelMean:
    """A model's mean score over tasks, and of its differences to the baseline."""

    model: str
    score: Estimate
    delta: Estimate | None

    @property
    def verdict(self) -> Change:
        """A gain or a loss where the interval is clear of none."""
        side = self.delta.side_of(0) if self.delta else 0
        return "" if side == 0 else "gain" if side > 0 else "loss"


@dataclass(frozen=True)
class Board:
    """tasks: told by their main metric. texts: where less is better. preferred: win rates.

    means: over `num_meant` tasks, those that every model has a score on; empty for fewer than two.
    preferences: mean win rates over all tasks that have one, by model.
    """

    baseline: str
    models: tuple[str, ...]
    tasks: tuple[TaskRow, ...]
    texts: tuple[TaskRow, ...]
    preferred: tuple[TaskRow, ...]
    preferences: Mapping[str, Estimate]
    means: tuple[ModelMean, ...]
    num_meant: int


def board(comparison: StageComparison) -> Board:
    """Return the few rows that a comparison is told by."""
    best = pick_best_rows(comparison.told)
    told = [row for row in best if _is_score(row)]
    main = {task: _main_metric(task, told) for task in dict.fromkeys(row.task for row in told)}
    tasks = _by_subject([row for row in told if row.metric == main[row.task]])
    meant = [
        row
        for row in tasks
        if row.metric != REWARD  # which has a scale of its own
        and all((found := row.rows.get(model)) and found.estimate for model in comparison.models)
    ]
    preferred = _by_subject([row for row in best if row.metric == "win_rate"])
    return Board(
        baseline=comparison.baseline,
        models=comparison.models,
        tasks=tasks,
        texts=_by_subject([row for row in best if row.lower_is_better]),
        preferred=preferred,
        preferences={
            model: found
            for model in comparison.candidates
            if (found := _preference(model, preferred)) is not None
        },
        means=tuple(_mean(model, meant) for model in comparison.models) if len(meant) > 1 else (),
        num_meant=len(meant),
    )


def _is_score(row: Row) -> bool:
    return not (row.lower_is_better or row.is_win_rate or row.metric.startswith("pass@"))


def _main_metric(task: str, rows: Sequence[Row]) -> str:
    metrics = [row.metric for row in rows if row.task == task]
    return VERIFIED if VERIFIED in metrics else metrics[0]


def _by_subject(rows: Sequence[Row]) -> tuple[TaskRow, ...]:
    by_subject: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        by_subject.setdefault((row.task, row.metric), {})[row.model] = row
    return tuple(TaskRow(task, metric, found) for (task, metric), found in by_subject.items())


def _mean(model: str, tasks: Sequence[TaskRow]) -> ModelMean:
    rows = [task.rows[model] for task in tasks]
    score, delta = (
        _mean_of(rows, lambda row: row.estimate),
        _mean_of(rows, lambda row: row.difference),
    )
    assert score is not None
    return ModelMean(model, score, delta)


def _preference(model: str, preferred: Sequence[TaskRow]) -> Estimate | None:
    rows = [task.rows[model] for task in preferred if model in task.rows]
    return _mean_of([row for row in rows if row.estimate], lambda row: row.estimate)


def _mean_of(rows: Sequence[Row], of: Callable[[Row], Estimate | None]) -> Estimate | None:
    found = [each for row in rows if (each := of(row)) is not None]
    if len(found) < len(rows):
        return None
    return mean_over_tasks(found)


def rests_on(verdict: Verdict) -> str:
    """Return what a verdict looks at: `code, sql: difference at least 0; facts_bpb: ...`."""
    by_bound: dict[str, dict[str, None]] = {}
    for condition in verdict.conditions:
        bound = f"{_BOUNDS[condition.bound]} {number(condition.limit, 4).rstrip('0').rstrip('.')}"
        by_bound.setdefault(bound, {})[condition.key] = None
    return "; ".join(f"{', '.join(keys)}: {bound}" for bound, keys in by_bound.items())


def unguarded_losses(verdict: Verdict, comparison: StageComparison) -> tuple[Row, ...]:
    """Return a model's losses, the biggest first, that no condition of the gate looks at."""
    metrics_by_task: dict[str, list[str]] = {}
    for row in comparison.rows:
        metrics_by_task.setdefault(row.task, []).append(row.metric)
    guarded = {
        (resolve(condition.key, metrics_by_task).task, condition.metric)
        for condition in verdict.conditions
    }
    return losses_of(verdict.model, comparison, guarded)


def losses_of(
    model: str, comparison: StageComparison, leaves_out: Collection[tuple[str, str]]
) -> tuple[Row, ...]:
    """Return a model's losses, the biggest first, except on tasks and metrics in `leaves_out`."""
    rows = [
        row
        for row in pick_best_rows(comparison.told)
        if (row.model, row.verdict) == (model, "loss")
        if (row.task, row.metric) not in leaves_out and row.delta is not None
    ]
    return tuple(sorted(rows, key=lambda row: -abs(row.delta or 0.0)))


def loss_text(row: Row, digits: int) -> str:
    """Return `translation, answers that verify: -0.12 [-0.22, -0.02]`."""
    return f"{row.task}, {metric_label(row.metric)}: {estimate(row.difference, digits, sign=True)}"
