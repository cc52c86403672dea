"""How often intervals hold the truth: exactly where outcomes can be listed, else by simulation."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.statistics.intervals import Interval, blaker, tango, wilson

Floats = NDArray[np.float64]
SHARES = np.round(np.arange(0.05, 0.951, 0.01), 2)
PROPORTIONS = {"Blaker, mid-P": blaker, "Wilson": wilson}


def is_within(coverages: Floats) -> "NDArray[np.bool_]":
    return (coverages >= 0.94) & (coverages <= 0.96)


def proportion_coverages(interval: Callable[[int, int], Interval], n: int) -> Floats:
    """Return the exact coverage for each of SHARES: the sum over all outcomes."""
    chances = stats.binom.pmf(np.arange(n + 1)[:, None], n, SHARES)
    found = [interval(successes, n) for successes in range(n + 1)]
    low, high = (np.array([[getattr(each, end)] for each in found]) for end in ("low", "high"))
    return np.where((low <= SHARES) & (high >= SHARES), chances, 0).sum(axis=0)


def attainable(n: int) -> "NDArray[np.bool_]":
    """Return for which of SHARES some run of outcomes has a chance of 0.94 to 0.96.

    The outcomes whose interval holds a share are such a run: elsewhere no interval can.
    """
    below = stats.binom.cdf(np.arange(-1, n + 1)[:, None], n, SHARES)
    found = []
    for column in below.T:
        shortest = np.searchsorted(column, column + 0.94)
        is_possible = shortest <= n + 1
        chances = column[shortest[is_possible]] - column[is_possible]
        found.append(bool(np.any(chances <= 0.96)))
    return np.array(found)


@cache
def tangos(wins: int, losses: int, n: int) -> Interval:
    return tango(wins, losses, n)


def students(wins: int, losses: int, n: int) -> Interval:
    """Student's interval of the same difference, for comparison."""
    centre = (wins - losses) / n
    reach = _quantile(n - 1) * ((wins + losses) / n - centre**2) ** 0.5 / (n - 1) ** 0.5
    return Interval(centre - reach, centre + reach)


@cache
def _quantile(degrees: int) -> float:
    return float(stats.t.ppf(0.975, degrees))


def difference_coverages(
    interval: Callable[[int, int, int], Interval],
    n: int,
    cells: Iterable[tuple[float, float]],
    *,
    num_experiments: int | None = None,
) -> Floats:
    """Return the coverage of (wins - losses) / n for each chance of a win and of a loss.

    Exactly, or of as many simulated experiments.
    """
    generator = np.random.default_rng(n)
    coverages = []
    for win, loss in cells:
        tie = max(0.0, 1 - win - loss)
        if num_experiments is None:
            wins, losses = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
            counts = np.stack([wins, losses, n - wins - losses], axis=1)
            chances = stats.multinomial.pmf(counts, n, [win, loss, tie])
        else:
            drawn = generator.multinomial(n, [win, loss, tie], num_experiments)
            counts, times = np.unique(drawn, axis=0, return_counts=True)
            chances = times / num_experiments
        likely = chances > 1e-9
        found = [interval(*each, n) for each in counts[likely, :2].tolist()]
        truth = win - loss
        held = [each.low - 1e-12 <= truth <= each.high + 1e-12 for each in found]
        coverages.append(chances[likely][held].sum())
    return np.array(coverages)


def simulated_coverage(
    experiments: Iterable[Sequence[float]],
    truth: float,
    interval: Callable[[Sequence[float]], Interval | None],
) -> float:
    """Return in what share of experiments the interval is there and holds the truth."""
    held = [
        found is not None and found.low <= truth <= found.high
        for found in map(interval, experiments)
    ]
    return float(np.mean(held))
