"""The comparison of models with a baseline, one row per score, computed from their item results.

What is paired with what is decided in `eval.comparison.paired_results`; the tables beside this one
are `eval.comparison.comparison` and what it puts together. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from eval.comparison.paired_results import WIN_RATE, RowItems, Way, goodness, pair_results
from eval.model import Form
from eval.results import ItemResult, Style
from eval.statistics.estimate import Estimate, estimate_of
from eval.statistics.intervals import holm

Change = Literal["gain", "loss", ""]
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Row:
    """One model's score on one task, asked in one way, and what it gained over the baseline.

    metric: as of the items; `pass@k`; or `win_rate`, on how many items the response is preferred to
        the baseline's in the same style, a tie counting half. The baseline has no such row.
    style, shots, form: how it was asked, with how many demonstrations, as a document or through its
        chat template. samples: of each item.
    n, score, low, high: graded items, their mean (bits per byte: total bits / total bytes) and its
        95% interval; None where nothing was graded, or too little for an interval.
    delta, delta_low, delta_high: score minus the baseline's on the items that both graded, with its
        95% interval; None for the baseline itself and for win rates.
    against, against_shots: how the baseline was asked where its score is best: what `delta` is
        taken against.
    p: exact, of McNemar's test, where each item is right or wrong; p_adjusted: for all p of the
        comparison (Holm 1979).
    gained, lost: items that only this model has right, and that only the baseline has.
    detectable: the true difference that as many items find in four of five cases.
    tokens: mean length of the written responses. window: tokens of context that texts were read
        with; 0 where nothing was read.
    ungraded: items left out because they, or the baseline's answers to them, could not be graded.
    """

    task: str
    metric: str
    model: str
    style: Style
    shots: int
    form: Form
    lower_is_better: bool
    samples: int
    n: int
    ungraded: int
    score: float | None
    low: float | None
    high: float | None
    against: Style | None
    against_shots: int | None
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p: float | None
    p_adjusted: float | None
    gained: int | None
    lost: int | None
    detectable: float | None
    tokens: float | None
    window: int = 0

    @property
    def estimate(self) -> Estimate | None:
        """The score with its interval."""
        return estimate_of(self.score, self.low, self.high)

    @property
    def difference(self) -> Estimate | None:
        """What the score gains over the baseline's, with its interval."""
        return estimate_of(self.delta, self.delta_low, self.delta_high)

    @property
    def against_ways(self) -> tuple[Way, ...]:
        """How the baseline was asked where its score is best; empty without a difference."""
        if self.against is None or self.against_shots is None:
            return ()
        return ((self.against, self.against_shots),)

    @property
    def is_win_rate(self) -> bool:
        """Whether the score says how often the response is preferred to the baseline's."""
        return self.metric.startswith(WIN_RATE)

    @property
    def verdict(self) -> Change:
        """A gain or a loss where the interval that is shown is clear of no difference."""
        if self.is_win_rate:
            side = self.estimate.side_of(0.5) if self.estimate else 0
        else:
            side = self.difference.side_of(0.0) if self.difference else 0
            side = -side if self.lower_is_better else side
        return "" if side == 0 else "gain" if side > 0 else "loss"

    @property
    def is_firm(self) -> bool:
        """Whether a gain or loss stands when p is adjusted for all differences that were tested."""
        return self.p_adjusted is None or self.p_adjusted < _SIGNIFICANT


def compare_scores(
    results: Mapping[str, Sequence[ItemResult]], baseline: str, *, pass_at: Sequence[int] = ()
) -> list[Row]:
    """Return a row for each task, metric, model and way of asking, in the order of `pair_results`.

    Raises ValueError as `pair_results` does.
    """
    return make_rows(pair_results(results, baseline, pass_at=pass_at))


def make_rows(items: Sequence[RowItems]) -> list[Row]:
    """Return the rows of one comparison; their p-values are adjusted for each other."""
    rows = [_row(row_items) for row_items in items]
    tested = [index for index, row in enumerate(rows) if row.p is not None]
    adjusted = holm([p for row in rows if (p := row.p) is not None])
    for index, p in zip(tested, adjusted, strict=True):
        rows[index] = replace(rows[index], p_adjusted=p)
    return rows


def pick_best_rows(rows: Sequence[Row]) -> list[Row]:
    """Return each model's best way of being asked on each task and metric, in the rows' order."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row.task, row.metric, row.model)
        if key not in best or _goodness(row) > _goodness(best[key]):
            best[key] = row
    return list(best.values())


def _goodness(row: Row) -> float:
    return goodness(row.score, lower_is_better=row.lower_is_better)


def _row(items: RowItems) -> Row:
    interval, delta_interval = items.score_interval(), items.delta_interval()
    flips = items.flips()
    style, shots = items.against or (None, None)
    return Row(
        task=items.task,
        metric=items.metric,
        model=items.model,
        style=items.style,
        shots=items.shots,
        form=items.form,
        lower_is_better=items.lower_is_better,
        samples=items.samples,
        n=len(items.scores),
        ungraded=items.ungraded,
        score=items.score,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        against=style,
        against_shots=shots,
        delta=items.delta,
        delta_low=delta_interval.low if delta_interval else None,
        delta_high=delta_interval.high if delta_interval else None,
        p=items.p_value(),
        p_adjusted=None,
        gained=len(flips[0]) if flips else None,
        lost=len(flips[1]) if flips else None,
        detectable=items.detectable(),
        tokens=items.tokens,
        window=next((a[0].window for a in items.answers.values()), 0),
    )
