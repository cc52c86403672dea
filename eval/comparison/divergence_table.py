"""How far models have moved from those they were trained from, and how good that made them.

The mean over sampled responses of their `log_ratio`: the plain estimator of
`eval.asking.divergence`, in nats per response. Responses that were not sampled at temperature 1
carry no ratio: for a greedy response it would not estimate a divergence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.results import ItemResult, Style
from eval.statistics.estimate import Estimate, estimate_of
from eval.statistics.intervals import Interval, clustered_interval, mean, mean_interval


@dataclass(frozen=True)
class DivergenceRow:
    """KL(model || the one it is measured to) on a task's prompts, in nats per response.

    trained_from: that other model: the parent, or another that was named. n: responses. low, high:
    its 95% interval over items. tokens: mean length of these responses. gold, gold_low, gold_high:
    mean gold score of all responses, None where the task gives none. kl_by_seed, gold_by_seed: of
    several seeds, what the figures are means of.
    """

    task: str
    model: str
    trained_from: str
    style: Style
    shots: int
    n: int
    kl: float
    low: float | None
    high: float | None
    tokens: float
    gold: float | None = None
    gold_low: float | None = None
    gold_high: float | None = None
    kl_by_seed: tuple[float, ...] = ()
    gold_by_seed: tuple[float, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The divergence with its interval."""
        return Estimate(self.kl, self.low, self.high, self.kl_by_seed)

    @property
    def gold_score(self) -> Estimate | None:
        """The mean gold score with its interval."""
        found = estimate_of(self.gold, self.gold_low, self.gold_high)
        return found and Estimate(found.value, found.low, found.high, self.gold_by_seed)


def tabulate_divergence(
    rows: Sequence[RowItems], trained_from: Mapping[str, str | None]
) -> list[DivergenceRow]:
    """Return the divergence of every row whose answers carry ratios.

    trained_from: what each model is measured to, by its name, where that is known.
    """
    found = (_row([row], trained_from.get(row.model)) for row in rows if row.is_asked)
    return [row for row in found if row is not None]


def pool_divergence(
    by_seed: Sequence[Sequence[RowItems]], trained_from: Mapping[str, str | None]
) -> list[DivergenceRow]:
    """Return means over seeds, with intervals that resample items with their answers of all seeds.

    by_seed: the same rows of each seed, in order. Left out are rows that a seed does not have.
    """
    of_seeds = [{_key(row): row for row in rows if row.is_asked} for rows in by_seed]
    shared = [key for key in of_seeds[0] if all(key in rows for rows in of_seeds)]
    found = (_row([rows[key] for rows in of_seeds], trained_from.get(key[1])) for key in shared)
    return [row for row in found if row is not None]


def _key(row: RowItems) -> tuple[str, str, str, int, str]:
    return row.task, row.model, row.style, row.shots, row.metric


def _row(seeds: Sequence[RowItems], source: str | None) -> DivergenceRow | None:
    """Return a row, of one seed or of several; None where nothing was measured."""
    if source is None:
        return None
    answers = [_measured(row) for row in seeds]
    if not all(answers):
        return None
    first = seeds[0]
    kl, kl_by_seed, interval = _pool([_by_item(each, "log_ratio") for each in answers])
    golds = [_by_item(row.answers, "gold_score") for row in seeds]
    gold, gold_by_seed, gold_interval = _pool(golds) if all(golds) else (None, (), None)
    has_seeds = len(seeds) > 1
    return DivergenceRow(
        task=first.task,
        model=first.model,
        trained_from=source,
        style=first.style,
        shots=first.shots,
        n=sum(len(samples) for each in answers for samples in each.values()),
        kl=kl,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        tokens=mean([a.num_tokens for each in answers for s in each.values() for a in s]),
        gold=gold,
        gold_low=gold_interval.low if gold_interval else None,
        gold_high=gold_interval.high if gold_interval else None,
        kl_by_seed=kl_by_seed if has_seeds else (),
        gold_by_seed=gold_by_seed if has_seeds else (),
    )


def _measured(row: RowItems) -> dict[str, list[ItemResult]]:
    """Return the answers that carry a ratio, by item; items without any are left out."""
    measured = {
        item: [answer for answer in answers if answer.log_ratio is not None]
        for item, answers in row.answers.items()
    }
    return {item: answers for item, answers in measured.items() if answers}


def _by_item(answers: Mapping[str, Sequence[ItemResult]], name: str) -> dict[str, float]:
    """Return the mean of a figure over each item's answers, of those that have it."""
    values = {
        item: [value for answer in samples if (value := getattr(answer, name)) is not None]
        for item, samples in answers.items()
    }
    return {item: mean(found) for item, found in values.items() if found}


def _pool(
    by_seed: Sequence[Mapping[str, float]],
) -> tuple[float, tuple[float, ...], Interval | None]:
    """Return the mean over seeds, each seed's, and its interval."""
    means = tuple(mean(list(found.values())) for found in by_seed)
    if len(by_seed) == 1:
        return means[0], means, mean_interval(list(by_seed[0].values()))
    items = list(dict.fromkeys(item for found in by_seed for item in found))
    interval = clustered_interval(
        [[found.get(item, 0.0) for item in items] for found in by_seed],
        [[float(item in found) for item in items] for found in by_seed],
    )
    return mean(means), means, interval
