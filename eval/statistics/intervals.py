"""Intervals and tests for mean scores, and for the difference of two models on the same items.

Which interval a figure gets was decided by measured coverage (`tests/prove`, and the table in
`recipes/RESULTS.md`): Blaker's for 0/1 scores, Tango's for paired 0/1 scores and for wins, ties and
losses, Student's for means of anything else (with Wilson's form where scores have bounds), and a
bootstrap with a fixed seed for ratios such as bits per byte. All treat items as independent draws
from what they stand for, and only `holm` corrects for making many comparisons.

Sources: Wilson 1927; McNemar 1947; Holm 1979; Efron 1979 (bootstrap); Davison and Hinkley 1997,
section 3.8 (whole clusters are drawn); Tango 1998; Blaker 2000; Dean and Pagano 2015 (Wilson's form
for clusters); Hesterberg 2015, section 5.3 (percentiles widened for few items).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NUM_RESAMPLES = 10_000

_DRAWS_AT_ONCE = 2**20  # 8 MiB of indices
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion; (0, 1) when nothing was counted."""
    _check_count(successes, n)
    if n == 0:
        return Interval(0.0, 1.0)
    found = _score_interval(successes / n, n, _normal_quantile(confidence))
    # The limits at none and all are exactly 0 and 1; rounding must not leave them an ulp inside.
    return Interval(0.0 if successes == 0 else found.low, 1.0 if successes == n else found.high)


def blaker(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Blaker's interval of a proportion with mid-P; (0, 1) when nothing was counted.

    It holds the shares that a two-sided test does not reject. The tail of an outcome is the smaller
    of P(as many or fewer) and P(as many or more); the p-value is the chance of outcomes with a
    smaller tail than the observed one, plus half the chance of that one itself. From 200 items on
    it covers 94% to 96% for every share from 0.05 to 0.95, Wilson's only from 450 on.
    """
    _check_count(successes, n)
    if not 0.5 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0.5 and 1")
    low = _blaker_low(successes, n, 1 - confidence)
    return Interval(low, 1 - _blaker_low(n - successes, n, 1 - confidence))


def tango(wins: int, losses: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Tango's score interval of (wins - losses) / n, the rest of the n items being ties.

    Without ties it is Wilson's of the share of wins, carried over from 0..1 to -1..1; with nothing
    but ties it is 0 +- Wilson's upper limit for the share of items that are no tie. From 100 items
    on, of which 10 or more are no tie, it covers 94% to 96%; with fewer up to 100%.
    """
    if n < 1 or wins < 0 or losses < 0 or wins + losses > n:
        raise ValueError(f"{wins} wins and {losses} losses in {n} comparisons")
    z = _normal_quantile(confidence)
    return Interval(_tango_low(wins, losses, n, z), -_tango_low(losses, wins, n, z))


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
    """Return an interval for the mean.

    Blaker's for 0/1 scores. For other scores Student's t, in Wilson's form where they lie in 0..1
    (partial credit, means of several answers). A bootstrap where weights differ: there alone `seed`
    matters. None where the scores cannot tell: there are none, one that is not 0/1, or only equal
    ones outside 0..1.
    """
    if not scores:
        return None
    if weights is not None and len(set(weights)) > 1:
        return _bootstrap([scores], [weights], confidence, seed)
    if _are_binary(scores):
        return blaker(round(math.fsum(scores)), len(scores), confidence)
    centre = mean(scores)
    return _student([s - centre for s in scores], centre, _bounds(scores), confidence)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """Return mean(a) - mean(b) and its interval, for two models' scores on the same items.

    What makes an item easy for both models cancels out. Tango's interval for 0/1 scores, Student's
    t for others, and where weights differ a bootstrap that draws items, each with both its scores.
    Models that never differ are not called certainly equal. None for no item, or one not 0/1.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores cannot be paired with {len(b)}")
    if not a:
        raise ValueError("no pair of scores to take a difference of")
    delta = mean(a, weights) - mean(b, weights)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if weights is not None and len(set(weights)) > 1:
        return delta, _bootstrap([differences], [weights], confidence, seed)
    if _are_binary(a) and _are_binary(b):
        return delta, tango(differences.count(1), differences.count(-1), len(a), confidence)
    bounds = (-1.0, 1.0) if _bounds([*a, *b]) == (0.0, 1.0) else None
    return delta, _student([d - delta for d in differences], delta, bounds, confidence)


def clustered_interval(
    scores: Sequence[Sequence[float]],
    weights: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Return an interval for the mean over runs of each run's weighted mean.

    scores, weights: [run][item], the same items in every run; weight 0 where it has no score.

    What is drawn are items, each with its scores of all runs, since runs that were asked the same
    items are not independent of each other: as many runs as one likes leave what the choice of
    items leaves. How much runs differ from each other is not in it beyond the runs there are.
    Student's t over items (in Wilson's form where scores lie in 0..1 or -1..1); where weights above
    0 differ, a bootstrap without the draws in which a run has no score. None for fewer than two
    items. Raises ValueError for a run without an item that has a weight.
    """
    if not scores or {len(row) for row in (*scores, *weights)} != {len(scores[0])}:
        raise ValueError("every run needs a score and a weight for each item")
    if not all(any(row) for row in weights):
        raise ValueError("every run needs an item with a weight")
    if len({w for row in weights for w in row} - {0.0}) > 1:
        return _bootstrap(scores, weights, confidence, seed)
    import numpy as np

    weight = np.asarray(weights, np.float64)
    is_scored = weight.any(axis=0)
    weight, score = weight[:, is_scored], np.asarray(scores, np.float64)[:, is_scored]
    means = (weight * score).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    # How far each item takes the mean of the ratios from where it is (delta method).
    deviations = (weight * (score - means) / weight.mean(axis=1, keepdims=True)).mean(axis=0)
    bounds = _bounds(score[weight > 0].tolist())
    return _student(deviations.tolist(), float(means.mean()), bounds, confidence)


def student_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's t interval for the mean; None for fewer than three or only equal values.

    Equal values would give an interval of no length: a certainty that so few cannot support.
    """
    if len(values) < 3 or len(set(values)) == 1:
        return None
    reach = _student_quantile(len(values) - 1, confidence) * stdev(values) / math.sqrt(len(values))
    return Interval(mean(values) - reach, mean(values) + reach)


def mcnemar_exact(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the exact two-sided p-value of 0/1 scores if both models were equally good.

    Only items on which the two differ speak: their winners are coin flips under the hypothesis. As
    statsmodels' `mcnemar(exact=True)`, and SciPy's `binomtest` of the items that differ.
    """
    if not (_are_binary(a) and _are_binary(b)):
        raise ValueError("McNemar's test takes scores of 0 and 1 only")
    only_a = sum(1 for x, y in zip(a, b, strict=True) if x > y)
    only_b = sum(1 for x, y in zip(a, b, strict=True) if x < y)
    num_differing = only_a + only_b
    tail, ways = 0, 1  # ways to choose k of them, from k = 0 up
    for k in range(min(only_a, only_b) + 1):
        tail += ways
        ways = ways * (num_differing - k) // (k + 1)
    return min(1.0, 2 * tail / 2**num_differing)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for making all of these comparisons, in the order given (Holm 1979).

    The k-th smallest of m, from 0, becomes the largest so far of (m - k) * p, at most 1. Rejecting
    where that is at most alpha makes a false rejection among them in at most alpha of all cases.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def _are_binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _check_count(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")


def _bounds(values: Sequence[float]) -> tuple[float, float] | None:
    """Return 0..1 or -1..1, the bounds of scores and of their differences, if all are within."""
    if not -1 <= min(values) <= max(values) <= 1:
        return None
    return (0.0 if min(values) >= 0 else -1.0), 1.0


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _student_quantile(degrees: int, confidence: float) -> float:
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtrit(degrees, (1 + confidence) / 2))


def _score_interval(rate: float, n: float, quantile: float) -> Interval:
    """Return the shares p with |rate - p| <= quantile * sqrt(p * (1 - p) / n) (Wilson 1927)."""
    z = quantile
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(centre - reach, centre + reach)


def _student(
    deviations: Sequence[float],
    centre: float,
    bounds: tuple[float, float] | None,
    confidence: float,
) -> Interval | None:
    """Return Student's t interval of a mean whose items deviate from it like this.

    With bounds it has Wilson's form, for as many 0/1 scores as would have the mean's standard error
    (the effective number of items), so that it stays inside and leans towards the middle. Where all
    values are equal the items that are not may be up to Wilson's limit for none in n, and lie at a
    bound.
    """
    n = len(deviations)
    if n < 2:
        return None
    low, high = bounds or (-math.inf, math.inf)
    if max(map(abs, deviations)) <= _ROUNDING * max(1.0, abs(centre)):
        share = wilson(0, n, confidence).high
        return (
            Interval(centre - share * (centre - low), centre + share * (high - centre))
            if bounds
            else None
        )
    quantile = _student_quantile(n - 1, confidence)
    variance = math.fsum(d**2 for d in deviations) / (n * (n - 1))
    if bounds is None:
        return Interval(
            centre - quantile * math.sqrt(variance), centre + quantile * math.sqrt(variance)
        )
    rate = (centre - low) / (high - low)
    found = _score_interval(rate, (centre - low) * (high - centre) / variance, quantile)
    return Interval(low + (high - low) * found.low, low + (high - low) * found.high)


def _blaker_low(successes: int, n: int, alpha: float) -> float:
    """Return the smallest share whose p-value is at least alpha.

    Below successes / n the observed tail is P(as many or more). As the share grows that overtakes
    P(count or fewer) for one count after the other, each time adding it to the p-value at once; in
    between the p-value is convex, so it is largest at the ends.
    """
    if successes == 0:
        return 0.0
    from scipy import special  # pyright: ignore[reportMissingTypeStubs]

    def as_many(share: float) -> float:
        return float(special.betainc(successes, n - successes + 1, share))

    def fewer(count: int, share: float) -> float:
        return float(special.bdtr(count, n, share)) if count >= 0 else 0.0

    def is_larger_tail(share: float, count: int) -> bool:
        return fewer(count, share) >= as_many(share)

    def is_rejected(share: float, count: int) -> bool:  # count: the largest of a smaller tail
        more = float(special.betainc(successes + 1, n - successes, share)) if successes < n else 0.0
        return (as_many(share) + more) / 2 + fewer(count, share) < alpha

    # The p-value is below twice P(as many or more) and at least half of it: the answer is between.
    low, high = (
        float(special.betaincinv(successes, n - successes + 1, tail))
        for tail in (alpha / 2, 2 * alpha)
    )
    count = math.ceil(special.bdtrik(alpha / 2, n, low)) - 1
    while is_rejected(low, count):
        end = _boundary(is_larger_tail, low, high, count + 1)
        if not is_rejected(end, count):
            return _boundary(is_rejected, low, end, count)
        low, count = end, count + 1
    return low


def _tango_low(wins: int, losses: int, n: int, z: float) -> float:
    """Return the largest difference below the estimate at which the test statistic exceeds z."""

    def is_rejected(delta: float) -> bool:
        # The share of losses with the largest likelihood among those with this difference.
        linear = (2 * n - wins + losses) * delta - wins - losses
        root = math.sqrt(max(0.0, linear**2 + 8 * n * losses * delta * (1 - delta)))
        losing = (root - linear) / (4 * n)
        variance = n * max(0.0, 2 * losing + delta * (1 - delta))
        return wins - losses - n * delta > z * math.sqrt(variance)

    return _boundary(is_rejected, -1.0, (wins - losses) / n)


def _boundary(holds: Callable[..., bool], low: float, high: float, *given: int) -> float:
    """Return where between low and high a condition stops holding, by bisection."""
    while low < (middle := (low + high) / 2) < high:
        if holds(middle, *given):
            low = middle
        else:
            high = middle
    return high


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
    # Percentiles as wide as Student's t for n items (Hesterberg 2015).
    student = -_student_quantile(n - 1, confidence)
    tail = NormalDist().cdf(student * math.sqrt(n / (n - 1)))
    low, high = np.nanquantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))
