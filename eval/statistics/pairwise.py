"""How well scores tell the preferred response from the other: accuracy, calibration, length bias.

For reward models and for the implicit rewards of DPO (Rafailov et al. 2023, eq. 5). The chance that
a Bradley-Terry model gives to the preferred response is sigmoid(score - score of the other).
Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from eval.statistics.intervals import mean_interval, paired_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

_BINS = 5


@dataclass(frozen=True)
class ScoredPair:
    """The scores of a pair's responses, their lengths in tokens, and what is wrong with one.

    probability: that the chosen one is preferred, where the label says so.
    """

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int
    flaw: str = ""
    probability: float = 1.0

    @property
    def margin(self) -> float:
        """The score of the preferred response minus the other's."""
        return self.chosen - self.rejected

    @property
    def is_right(self) -> float:
        """The chance that the response that scores higher is the preferred one; 0.5 for a tie."""
        if self.margin == 0:
            return 0.5
        return self.probability if self.margin > 0 else 1 - self.probability

    @property
    def is_longer_right(self) -> float:
        """The chance that the longer response is the preferred one; 0.5 where none is longer."""
        if self.chosen_tokens == self.rejected_tokens:
            return 0.5
        is_longer = self.chosen_tokens > self.rejected_tokens
        return self.probability if is_longer else 1 - self.probability


@dataclass(frozen=True)
class Bin:
    """Pairs in which the model was about as sure: its mean confidence and how often it was right.

    confidence: of the response that it prefers, from 0.5 (no idea) to 1.
    """

    n: int
    confidence: float
    accuracy: float


def accuracy(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    """Return n, the share of pairs ranked right (ties half) and its 95% interval.

    best_accuracy: what could be reached at most, where labels are not certain.
    """
    right = [pair.is_right for pair in pairs]
    interval = mean_interval(right)
    best = fmean(pair.probability for pair in pairs)
    return {
        "n": len(pairs),
        "accuracy": fmean(right),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        **({"best_accuracy": best} if best < 1 else {}),
    }


def mean_loss(pairs: Sequence[ScoredPair]) -> float:
    """Return the mean of -log sigmoid(margin): the loss of a Bradley-Terry model, in nats.

    Where a label is not certain, of both ways round, weighed by it.
    """
    return fmean(
        pair.probability * _softplus(-pair.margin) + (1 - pair.probability) * _softplus(pair.margin)
        for pair in pairs
    )


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def calibration(pairs: Sequence[ScoredPair]) -> tuple[list[Bin], float]:
    """Return bins of equal width over the confidence, and the expected calibration error.

    The error is the mean over pairs of |confidence - accuracy| of their bin (Naeini et al. 2015).
    """
    binned: list[list[tuple[float, float]]] = [[] for _ in range(_BINS)]
    for pair in pairs:
        confidence = 1 / (1 + math.exp(-min(abs(pair.margin), 700)))
        number = min(int((confidence - 0.5) * 2 * _BINS), _BINS - 1)
        binned[number].append((confidence, pair.is_right))
    bins = [
        Bin(len(each), fmean(c for c, _ in each), fmean(r for _, r in each))
        for each in binned
        if each
    ]
    error = sum(each.n * abs(each.confidence - each.accuracy) for each in bins) / len(pairs)
    return bins, error


def length_bias(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    """Return how much length alone explains.

    correlation: Pearson's, of score and tokens over all responses (None where one is constant).
    longer_is_chosen: share of pairs whose preferred response is the longer one, what a judge of
        length alone would reach. accuracy by which of the two is longer.
    above_longer: the accuracy minus that of preferring the longer response, with its 95% interval.
    """
    tokens = [n for pair in pairs for n in (pair.chosen_tokens, pair.rejected_tokens)]
    scores = [s for pair in pairs for s in (pair.chosen, pair.rejected)]
    longer = [pair for pair in pairs if pair.chosen_tokens > pair.rejected_tokens]
    shorter = [pair for pair in pairs if pair.chosen_tokens < pair.rejected_tokens]
    equal = len(pairs) - len(longer) - len(shorter)
    above, interval = paired_difference(
        [pair.is_right for pair in pairs], [pair.is_longer_right for pair in pairs]
    )
    return {
        "correlation": _pearson(tokens, scores),
        "longer_is_chosen": (len(longer) + 0.5 * equal) / len(pairs),
        "accuracy_chosen_longer": fmean(p.is_right for p in longer) if longer else None,
        "accuracy_chosen_shorter": fmean(p.is_right for p in shorter) if shorter else None,
        "above_longer": above,
        "above_longer_low": interval.low if interval else None,
        "above_longer_high": interval.high if interval else None,
    }


def distribution(pairs: Sequence[ScoredPair]) -> dict[str, float]:
    """Return mean and standard deviation of the scores and of the margins."""
    chosen, rejected = [p.chosen for p in pairs], [p.rejected for p in pairs]
    margins = [p.margin for p in pairs]
    return {
        "chosen_mean": fmean(chosen),
        "rejected_mean": fmean(rejected),
        "score_sd": pstdev([*chosen, *rejected]),
        "margin_mean": fmean(margins),
        "margin_sd": pstdev(margins),
    }


def report_pairs(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    """Return everything above as JSON, and the accuracy by flaw where flaws are named."""
    bins, error = calibration(pairs)
    flaws = sorted({pair.flaw for pair in pairs if pair.flaw})
    return {
        **accuracy(pairs),
        "calibration_error": error,
        "calibration": [vars(each) for each in bins],
        "length": length_bias(pairs),
        "scores": distribution(pairs),
        "by_flaw": {flaw: accuracy([p for p in pairs if p.flaw == flaw]) for flaw in flaws},
    }


def _pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    spread_x, spread_y = pstdev(x), pstdev(y)
    if spread_x == 0 or spread_y == 0:
        return None
    mean_x, mean_y = fmean(x), fmean(y)
    return fmean((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / (
        spread_x * spread_y
    )
