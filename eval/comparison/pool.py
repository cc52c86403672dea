"""The same comparison under several seeds, pooled: the mean over seeds and how far seeds differ.

Each seed trained models of its own and asked them the same items. Not a larger sample of items: see
`eval.statistics.intervals.clustered_interval`. Imports no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import stdev
from typing import Any

from eval.comparison.divergence_table import DivergenceRow
from eval.comparison.gate import GateResult
from eval.comparison.paired_results import EQUAL_LENGTH, RowItems, Way, pair_results
from eval.comparison.records import read_record
from eval.comparison.score_rows import Row
from eval.model import Form
from eval.results import ItemResult, Style
from eval.statistics.estimate import Estimate
from eval.statistics.intervals import Interval, clustered_interval, mean, student_interval

Results = Mapping[str, Sequence[ItemResult]]  # one seed's, by model


@dataclass(frozen=True)
class Spread:
    """One figure under several seeds.

    by_seed: in the order of the seeds; None where nothing was graded.
    mean: of the seeds; None unless every seed has the figure.
    smallest, largest, deviation: of the seeds; `deviation` is the sample standard deviation, None
        for one seed.
    low, high: 95% interval of the mean that resamples items, each with its answers of all seeds. It
        says what other items could have given; other seeds than these are not in it.
    seed_low, seed_high: 95% Student's t interval over seeds, for these items: what other seeds
        could have given. None for fewer than three seeds, or where all seeds give the same.
    """

    by_seed: tuple[float | None, ...]
    mean: float | None
    smallest: float | None
    largest: float | None
    deviation: float | None
    low: float | None
    high: float | None
    seed_low: float | None
    seed_high: float | None


@dataclass(frozen=True)
class PooledRow:
    """A row of `eval.comparison.score_rows` under several seeds.

    n, ungraded, against, against_shots: by seed, as in the seed's own row. delta: against the best
    style of the baseline in each seed; None for the baseline itself and for win rates.
    """

    task: str
    metric: str
    model: str
    style: Style
    shots: int
    form: Form
    lower_is_better: bool
    samples: int
    n: tuple[int, ...]
    ungraded: tuple[int, ...]
    against: tuple[Style | None, ...]
    against_shots: tuple[int | None, ...]
    score: Spread
    delta: Spread | None


@dataclass(frozen=True)
class MeanRow(Row):
    """A pooled row as one of a single comparison, for a gate to judge and a table to show.

    n, ungraded: of the seed with the fewest and the most. What only a single seed has (p, flips,
    lengths) is None. score_by_seed, delta_by_seed: what the means are of. against_by_seed: how the
    baseline was asked in each seed.
    """

    score_by_seed: tuple[float | None, ...] = ()
    delta_by_seed: tuple[float | None, ...] = ()
    against_by_seed: tuple[Way, ...] = ()

    @property
    def against_ways(self) -> tuple[Way, ...]:
        """How the baseline was asked where its score is best, in any seed."""
        return tuple(dict.fromkeys(self.against_by_seed))

    @property
    def estimate(self) -> Estimate | None:
        """The score with its interval and each seed's."""
        shown = super().estimate
        return shown and replace(shown, by_seed=self.score_by_seed)

    @property
    def difference(self) -> Estimate | None:
        """The difference with its interval and each seed's."""
        shown = super().difference
        return shown and replace(shown, by_seed=self.delta_by_seed)


@dataclass(frozen=True)
class PooledComparison:
    """The rows of one comparison under several seeds, and the verdict on their means.

    seeds: in the order of all that is by seed. comparisons: where each seed's own is stored.
    divergence: how far models have moved, means over seeds.
    """

    baseline: str
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    comparisons: tuple[str, ...]
    rows: tuple[PooledRow, ...]
    gate: GateResult | None = None
    divergence: tuple[DivergenceRow, ...] = ()

    @property
    def mean_rows(self) -> tuple[MeanRow, ...]:
        """The rows as those of a single comparison."""
        return tuple(map(mean_row, self.rows))

    def to_json(self) -> dict[str, Any]:
        """Return the content of its file."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PooledComparison":
        """Return the comparison that a file holds; ValueError for anything else."""
        return read_record(cls, content)


def pool(
    results: Sequence[Results], baseline: str, *, pass_at: Sequence[int] = ()
) -> list[PooledRow]:
    """Return the rows of a comparison, each pooled over the seeds whose results are given.

    pass_at: as of `eval.comparison.paired_results.pair_results`. Left out are win rates that only
    some seeds have (of items without gold scores), and those at equal length, which are not
    means over items.

    Raises ValueError as `compare` does, and if the seeds compare other models or asked other items.
    """
    _check_same_questions(results)
    by_seed = [
        {_key(row): row for row in pair_results(seed, baseline, pass_at=pass_at)}
        for seed in results
    ]
    shared = [
        key
        for key in by_seed[0]
        if all(key in rows for rows in by_seed) and by_seed[0][key].metric != EQUAL_LENGTH
    ]
    return [_pooled([rows[key] for rows in by_seed]) for key in shared]


def mean_row(pooled: PooledRow) -> MeanRow:
    """Return a pooled row as one of a single comparison."""
    score, delta = pooled.score, pooled.delta
    return MeanRow(
        task=pooled.task,
        metric=pooled.metric,
        model=pooled.model,
        style=pooled.style,
        shots=pooled.shots,
        form=pooled.form,
        lower_is_better=pooled.lower_is_better,
        samples=pooled.samples,
        n=min(pooled.n),
        ungraded=max(pooled.ungraded),
        score=score.mean,
        low=score.low,
        high=score.high,
        against=pooled.against[0],
        against_shots=pooled.against_shots[0],
        delta=delta.mean if delta else None,
        delta_low=delta.low if delta else None,
        delta_high=delta.high if delta else None,
        p=None,
        p_adjusted=None,
        gained=None,
        lost=None,
        detectable=None,
        tokens=None,
        score_by_seed=score.by_seed,
        delta_by_seed=delta.by_seed if delta else (),
        against_by_seed=tuple(
            (style, shots)
            for style, shots in zip(pooled.against, pooled.against_shots, strict=True)
            if style is not None and shots is not None
        ),
    )


def _key(row: RowItems) -> tuple[str, str, str, str, int]:
    return row.task, row.metric, row.model, row.style, row.shots


def _check_same_questions(results: Sequence[Results]) -> None:
    """Raise ValueError unless all seeds compare the same models on the same items."""
    if not results:
        raise ValueError("there is no seed's result to pool")
    asked = [
        {
            (model, item.task, item.metric, item.style, item.item, item.shots, item.sample)
            for model, items in seed.items()
            for item in items
        }
        for seed in results
    ]
    for other in asked[1:]:
        if other != asked[0]:
            model, task, metric, style, item, *_ = min(other ^ asked[0])
            raise ValueError(
                "the seeds did not ask the same: only some asked "
                f"`{model}` item `{item}` of `{task}` ({metric}, {style})"
            )


def _pooled(rows: Sequence[RowItems]) -> PooledRow:
    first = rows[0]
    delta: Spread | None = None
    if first.against is not None and not first.is_win_rate:
        differences = [
            {item: row.scores[item] - row.reference[item] for item in row.reference} for row in rows
        ]
        delta = _spread([row.delta for row in rows], differences, rows, first.delta_interval)
    return PooledRow(
        task=first.task,
        metric=first.metric,
        model=first.model,
        style=first.style,
        shots=first.shots,
        form=first.form,
        lower_is_better=first.lower_is_better,
        samples=first.samples,
        n=tuple(len(row.scores) for row in rows),
        ungraded=tuple(row.ungraded for row in rows),
        against=tuple(row.against[0] if row.against else None for row in rows),
        against_shots=tuple(row.against[1] if row.against else None for row in rows),
        score=_spread(
            [row.score for row in rows], [row.scores for row in rows], rows, first.score_interval
        ),
        delta=delta,
    )


def _spread(
    by_seed: Sequence[float | None],
    values: Sequence[Mapping[str, float]],
    rows: Sequence[RowItems],
    interval_of_one: Callable[[], Interval | None],
) -> Spread:
    """Pool a figure. values: by item, for each seed, what the figure is the weighted mean of.

    Where all seeds agree on every item (a model that they share, or a single seed) the interval is
    that of one seed: as exact, and not of no length when all scores are equal.
    """
    known = [value for value in by_seed if value is not None]
    if len(known) < len(by_seed):
        return Spread(tuple(by_seed), None, *[None] * 7)
    if all(seed == values[0] for seed in values):
        interval = interval_of_one()
    else:
        items = list(dict.fromkeys(item for seed in values for item in seed))
        interval = clustered_interval(
            [[seed.get(item, 0.0) for item in items] for seed in values],
            [
                [row.weights[item] if item in seed else 0.0 for item in items]
                for seed, row in zip(values, rows, strict=True)
            ],
        )
    over_seeds = student_interval(known)
    return Spread(
        by_seed=tuple(by_seed),
        mean=mean(known),
        smallest=min(known),
        largest=max(known),
        deviation=stdev(known) if len(known) > 1 else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        seed_low=over_seeds.low if over_seeds else None,
        seed_high=over_seeds.high if over_seeds else None,
    )
