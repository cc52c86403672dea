"""A compare stage's result as a report reads it: eval's comparison, named, with means over seeds.

The rows and tables are those of `eval.comparison`; words for them are formatting.py's subject.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from eval.comparison.comparison import Comparison
from eval.comparison.pool import PooledComparison
from eval.comparison.style_gains import StyleGains
from pipeline.commands.export import without_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.comparison.divergence_table import DivergenceRow
    from eval.comparison.score_rows import Row

# Fields of comparison.json that hold the name of a model or a task, which may be a path.
_NAMES = frozenset({"baseline", "model", "models", "task", "trained_from", "key"})


@dataclass(frozen=True)
class StageComparison(Comparison):
    """A finished compare stage. pooled: what `--seeds` made of it, where it was given."""

    stage: str = ""
    pooled: PooledComparison | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that scores are means over; empty for a single run."""
        return self.pooled.seeds if self.pooled else ()

    @property
    def told(self) -> tuple[Row, ...]:
        """The rows that a summary speaks of: means over seeds where there are several."""
        return self.pooled.mean_rows if self.pooled else self.rows

    @property
    def moved(self) -> tuple[DivergenceRow, ...]:
        """How far models have moved: means over seeds where there are several."""
        return (self.pooled and self.pooled.divergence) or self.divergence


@dataclass(frozen=True)
class RowGroup:
    """The rows of one task and metric. axis: what its marks are drawn on, from low to high."""

    task: str
    metric: str
    rows: tuple[Row, ...]
    axis: tuple[float, float]


def stage_comparison(
    comparison: Comparison, stage: str, *, pooled: PooledComparison | None = None
) -> StageComparison:
    """Return a stage's comparison with models and tasks that are paths under their last part.

    pooled: what `--seeds` made of it.
    """
    named = Comparison.from_json(hide_places(comparison.to_json()))
    values = {field.name: getattr(named, field.name) for field in fields(Comparison)}
    return StageComparison(**values, stage=stage, pooled=pooled)


def pooled_comparison(pooled: PooledComparison, stage: str) -> StageComparison:
    """Return means over seeds as a stage's comparison: rows and verdict, no other table."""
    named = PooledComparison.from_json(hide_places(pooled.to_json()))
    return StageComparison(
        baseline=named.baseline,
        models=named.models,
        rows=named.mean_rows,
        styles=StyleGains((), ()),
        groups=(),
        flips=(),
        calibration=(),
        divergence=(),
        written=(),
        notes=(),
        gate=named.gate,
        stage=stage,
        pooled=named,
    )


def hide_places(content: Any, field: str = "") -> Any:
    """Return a comparison's JSON in which models and tasks that are paths are their last part."""
    if isinstance(content, dict):
        values = cast("dict[str, Any]", content)
        return {key: hide_places(value, key) for key, value in values.items()}
    if isinstance(content, list | tuple):
        return [hide_places(value, field) for value in cast("list[Any]", content)]
    return without_places(content) if field in _NAMES else content


def group_rows(rows: Sequence[Row]) -> list[RowGroup]:
    """Return rows by task and metric, tasks in their order."""
    subjects = dict.fromkeys((row.task, row.metric) for row in rows)
    groups: list[RowGroup] = []
    for task in dict.fromkeys(task for task, _ in subjects):
        for metric in (metric for of_task, metric in subjects if of_task == task):
            own = tuple(row for row in rows if (row.task, row.metric) == (task, metric))
            groups.append(RowGroup(task, metric, own, _axis(own)))
    return groups


def _axis(rows: Sequence[Row]) -> tuple[float, float]:
    """Return 0 to 1 for shares, else what the rows need with a margin."""
    scores = [row.estimate for row in rows if row.estimate is not None]
    values = [v for e in scores for v in (e.value, e.low, e.high, *e.by_seed) if v is not None]
    if not values or (min(values) >= 0 and max(values) <= 1 and not rows[0].lower_is_better):
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin
