"""Intervals and tests for mean scores, and for the difference of two models on the same items.

Scores of 0 and 1 get closed forms; anything else (partial credit, bits per byte) a bootstrap with a
fixed seed. None of these corrects for making many comparisons, and all treat items as independent
draws from what they stand for.

Sources: Wilson 1927 (interval of a proportion); McNemar 1947; Efron 1979 (bootstrap); Davison and
Hinkley 1997, section 3.8 (whole clusters are drawn); Hesterberg 2015, "What Teachers Should Know
About the Bootstrap", section 5.3 (percentiles widened for few items).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NUM_RESAMPLES = 10_000

_DRAWS_AT_ONCE = 2**20  # 8 MiB of indices


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion; (0, 1) when nothing was counted."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Interval(0.0, 1.0)
    z = _normal_quantile(confidence)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # The limits at none and all are exactly 0 and 1; rounding must not leave them an ulp inside.
    low = 0.0 if successes == 0 else centre - reach
    high = 1.0 if successes == n else centre + reach
    return Interval(low, high)


def mean(scores: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the mean, or with weights the ratio sum(weight * score) / sum(weight)."""
    if weights is None:
        return math.fsum(scores) / len(scores)
    return math.fsum(w * s for s, w in zip(scores, weights, strict=True)) / math.fsum(weights)


def mean_interval(
    scores: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Return an interval for the mean: Wilson's for unweighted 0/1 scores, else a bootstrap.

    None where the scores cannot tell: there are none, or there is one that is not 0/1. Equal scores
    that are not 0/1 give an interval of no length.
    """
    if not scores:
        return None
    if weights is None and _are_binary(scores):
        return wilson(round(math.fsum(scores)), len(scores), confidence)
    return _bootstrap([scores], [weights or [1.0] * len(scores)], confidence, seed)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """Return mean(a) - mean(b) and its interval, for two models' scores on the same items.

    The interval is a paired bootstrap: items are drawn, each with both of its scores, so that what
    makes an item easy for both models cancels out. Where no 0/1 score differs a bootstrap would
    claim certainty; the interval is then +- Wilson's upper limit for the share of items on which
    the models differ. None for no item, or one not 0/1.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores cannot be paired with {len(b)}")
    if not a:
        raise ValueError("no pair of scores to take a difference of")
    delta = mean(a, weights) - mean(b, weights)
    if weights is None and _are_binary(a) and list(a) == list(b):
        limit = wilson(0, len(a), confidence).high
        return delta, Interval(-limit, limit)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return delta, _bootstrap([differences], [weights or [1.0] * len(a)], confidence, seed)


def clustered_interval(
    scores: Sequence[Sequence[float]],
    weights: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Return an interval for the mean over runs of each run's weighted mean, by a bootstrap.

    scores, weights: [run][item], the same items in every run; weight 0 where it has no score.

    Items are drawn, each with its scores of all runs, since runs that were asked the same items are
    not independent of each other: as many runs as one likes leave what the choice of items leaves.
    How much runs differ from each other is not in it beyond the runs there are. Draws in which a
    run has no score are left out. None for fewer than two items.
    """
    if not scores or {len(row) for row in (*scores, *weights)} != {len(scores[0])}:
        raise ValueError("every run needs a score and a weight for each item")
    return _bootstrap(scores, weights, confidence, seed)


def student_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's t interval for the mean; None for fewer than three or only equal values.

    Equal values would give an interval of no length: a certainty that so few cannot support.
    """
    if len(values) < 3 or len(set(values)) == 1:
        return None
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    reach = quantile * stdev(values) / math.sqrt(len(values))
    return Interval(mean(values) - reach, mean(values) + reach)


def mcnemar_exact(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the exact two-sided p-value of 0/1 scores if both models were equally good.

    Only items on which the two differ speak: their winners are coin flips under the hypothesis.
    """
    if not (_are_binary(a) and _are_binary(b)):
        raise ValueError("McNemar's test takes scores of 0 and 1 only")
    only_a = sum(1 for x, y in zip(a, b, strict=True) if x > y)
    only_b = sum(1 for x, y in zip(a, b, strict=True) if x < y)
    num_differing = only_a + only_b
    tail = sum(math.comb(num_differing, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**num_differing)


def _are_binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _bootstrap(
    values: Sequence[Sequence[float]],
    weights: Sequence[Sequence[float]],
    confidence: float,
    seed: int,
) -> Interval | None:
    """Return the interval of sum(weight * value) / sum(weight), its mean over runs, by percentiles.

    values, weights: [run][item]; what is drawn are items.
    """
    import numpy as np

    n = len(values[0])
    if n < 2:
        return None
    weight = np.asarray(weights, np.float64)
    weighted = np.asarray(values, np.float64) * weight
    generator = np.random.default_rng(seed)
    means: list[Floats] = []
    step = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, NUM_RESAMPLES, step):
        drawn = generator.integers(0, n, size=(min(step, NUM_RESAMPLES - start), n))
        total = np.zeros(len(drawn))
        with np.errstate(invalid="ignore"):  # 0 / 0 where a run has no score among the drawn
            for run_weighted, run_weight in zip(weighted, weight, strict=True):
                total += run_weighted[drawn].sum(axis=1) / run_weight[drawn].sum(axis=1)
        means.append(total / len(weighted))
    tail = _widened_tail((1 - confidence) / 2, n)
    low, high = np.nanquantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))


def _widened_tail(tail: float, n: int) -> float:
    """Return the tail for percentiles as wide as Student's t for n items (Hesterberg 2015)."""
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    student = float(stdtrit(n - 1, tail))
    return NormalDist().cdf(student * math.sqrt(n / (n - 1)))
