"""Scores by the group of the items: an operation, a difficulty, a distance that makes a curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.results import Style
from eval.statistics.estimate import Estimate, estimate_of
from eval.statistics.intervals import mean, mean_interval


@dataclass(frozen=True)
class GroupRow:
    """A model's mean score on the items of one group, with its 95% interval.

    n: graded items; the rest as of `eval.comparison.score_rows.Row`.
    """

    task: str
    metric: str
    model: str
    style: Style
    shots: int
    group: str
    n: int
    score: float
    low: float | None
    high: float | None

    @property
    def estimate(self) -> Estimate | None:
        """The score with its interval."""
        return estimate_of(self.score, self.low, self.high)


def score_groups(rows: Sequence[RowItems]) -> list[GroupRow]:
    """Return each row's scores by group; none where all items are of one group.

    Groups that are numbers come first, in their order, then the others by name.
    """
    found: list[GroupRow] = []
    for row in rows:
        group_by_item = {item: answers[0].group for item, answers in row.answers.items()}
        groups = sorted(set(group_by_item.values()), key=_place)
        if row.is_derived or len(groups) < 2:
            continue
        for group in groups:
            scores = {i: score for i, score in row.scores.items() if group_by_item[i] == group}
            if scores:
                found.append(_group_row(row, group, scores))
    return found


def _group_row(row: RowItems, group: str, scores: Mapping[str, float]) -> GroupRow:
    listed, weights = row.listed(scores)
    interval = mean_interval(listed, weights)
    return GroupRow(
        task=row.task,
        metric=row.metric,
        model=row.model,
        style=row.style,
        shots=row.shots,
        group=group,
        n=len(scores),
        score=mean(listed, weights),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
    )


def _place(group: str) -> tuple[bool, float, str]:
    try:
        return False, float(group), group
    except ValueError:
        return True, 0.0, group
