"""How sure models are of their choices and how often right, in a table beside the scores.

Over choices by log-likelihood. Confidence is the share of the chosen option in the probability that
the model gives to all options: it depends on them, so it compares models on the same items and says
little by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.results import Style
from eval.statistics.calibration import calibration
from eval.statistics.intervals import mean

_NUM_BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """The choices made with a confidence from `low` to below `high`; both means are of these."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationRow:
    """One model's choices on one task, asked in one way.

    error: expected calibration error (see `eval.statistics.calibration`). bins: those with a choice
    in them.
    """

    task: str
    model: str
    style: Style
    shots: int
    n: int
    error: float
    confidence: float
    accuracy: float
    bins: tuple[ConfidenceBin, ...]


def tabulate_calibration(rows: Sequence[RowItems]) -> list[CalibrationRow]:
    """Return the calibration of every row whose answers have a confidence."""
    found: list[CalibrationRow] = []
    for row in rows:
        choices = [
            (answer.confidence, answer.score)
            for answers in row.answers.values()
            for answer in answers
            if answer.confidence is not None and answer.score is not None
        ]
        if not row.is_asked or not choices:
            continue
        confidences, scores = zip(*choices, strict=True)
        bins, error = calibration(confidences, scores, num_bins=_NUM_BINS)
        places = [min(int(each.confidence * _NUM_BINS), _NUM_BINS - 1) for each in bins]
        found.append(
            CalibrationRow(
                task=row.task,
                model=row.model,
                style=row.style,
                shots=row.shots,
                n=len(choices),
                error=error,
                confidence=mean(confidences),
                accuracy=mean(scores),
                bins=tuple(
                    ConfidenceBin(
                        low=place / _NUM_BINS,
                        high=(place + 1) / _NUM_BINS,
                        n=each.n,
                        confidence=each.confidence,
                        accuracy=each.accuracy,
                    )
                    for place, each in zip(places, bins, strict=True)
                ),
            )
        )
    return found
