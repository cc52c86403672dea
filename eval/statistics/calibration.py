"""Whether a model is right as often as it is sure: calibration in bins (Naeini et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Bin:
    """Answers of which the model was about as sure: its mean confidence and how often it was right.

    confidence: the probability that it gave to its answer.
    """

    n: int
    confidence: float
    accuracy: float


def calibration(
    confidences: Sequence[float],
    is_right: Sequence[float],
    *,
    num_bins: int = 10,
    lowest: float = 0.0,
) -> tuple[list[Bin], float]:
    """Return the bins that are not empty, of equal width from `lowest` to 1, and their error.

    is_right: 1 or 0 for each confidence, or anything between for half right. The expected
    calibration error is the mean over answers of |confidence - accuracy| of their bin. Few answers
    a bin make it too large, since each bin's accuracy is off by chance.
    """
    if not confidences:
        raise ValueError("no answer to take a calibration of")
    if not lowest <= min(confidences) <= max(confidences) <= 1:
        raise ValueError(f"a confidence is outside {lowest} to 1")
    binned: list[list[tuple[float, float]]] = [[] for _ in range(num_bins)]
    for confidence, right in zip(confidences, is_right, strict=True):
        number = int((confidence - lowest) / (1 - lowest) * num_bins)
        binned[min(number, num_bins - 1)].append((confidence, right))
    bins = [
        Bin(len(each), fmean(c for c, _ in each), fmean(r for _, r in each))
        for each in binned
        if each
    ]
    error = sum(each.n * abs(each.confidence - each.accuracy) for each in bins)
    return bins, error / len(confidences)
