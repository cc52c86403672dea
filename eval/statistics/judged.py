"""How well implicit rewards tell answers that were wanted from answers that were not.

For KTO (Ethayarajh et al. 2024): the reward of a response is beta log p / q, and its sign says
whether it was wanted. Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class JudgedAnswer:
    """The implicit reward of a response, and whether it was wanted."""

    reward: float
    is_desirable: bool

    @property
    def is_right(self) -> float:
        """1 where the reward has the sign of the label, 0 where not, 0.5 for a reward of 0."""
        if self.reward == 0:
            return 0.5
        return float((self.reward > 0) == self.is_desirable)


def report_judged(answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Return n, the share whose reward has its label's sign (zeros half), its 95% interval.

    margin: mean reward of wanted answers minus that of the others; None without both. by_label:
    the same figures of each label.
    """
    wanted = [answer for answer in answers if answer.is_desirable]
    unwanted = [answer for answer in answers if not answer.is_desirable]
    sides = {"desirable": wanted, "undesirable": unwanted}
    return {
        **_accuracy(answers),
        "margin": _mean_reward(wanted) - _mean_reward(unwanted) if wanted and unwanted else None,
        "by_label": {
            label: {**_accuracy(side), "reward_mean": _mean_reward(side)}
            for label, side in sides.items()
            if side
        },
    }


def mean_loss(
    answers: Sequence[JudgedAnswer],
    *,
    kl_reward: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> float:
    """Return the mean KTO loss (eq. 7 of the paper): 1 - sigmoid of how far a reward is right.

    kl_reward: beta times the KL term, at least 0; with 0 this is the unpaired APO-zero loss.
    """
    return fmean(
        desirable_weight * _sigmoid(kl_reward - answer.reward)
        if answer.is_desirable
        else undesirable_weight * _sigmoid(answer.reward - kl_reward)
        for answer in answers
    )


def _accuracy(answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    right = [answer.is_right for answer in answers]
    interval = mean_interval(right)
    return {
        "n": len(answers),
        "accuracy": fmean(right),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }


def _mean_reward(answers: Sequence[JudgedAnswer]) -> float:
    return fmean(answer.reward for answer in answers)


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
