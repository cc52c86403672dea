"""How often the better of several responses to a prompt scores highest: pairs, best of four, ties.

A pair is the contest of one chosen and one rejected response, RewardBench 2 has one chosen and
three rejected, or many of both. How RewardBench weighs its subsets: reward_bench.py. Imports no
torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.statistics.intervals import mean, mean_interval
from eval.statistics.pairwise import ScoredPair, report_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Contest:
    """The scores of the responses to one prompt, and their lengths in tokens.

    subset: of the data, or what is wrong with the rejected response; "" where the data has none.
    key: what the data calls it. probability: that the chosen one is preferred, of a pair.
    """

    chosen: tuple[float, ...]
    rejected: tuple[float, ...]
    chosen_tokens: tuple[int, ...]
    rejected_tokens: tuple[int, ...]
    subset: str = ""
    key: str = ""
    probability: float = 1.0

    @property
    def pairs(self) -> list[ScoredPair]:
        """Every chosen response with every rejected one."""
        return [
            ScoredPair(good, bad, good_tokens, bad_tokens, probability=self.probability)
            for good, good_tokens in zip(self.chosen, self.chosen_tokens, strict=True)
            for bad, bad_tokens in zip(self.rejected, self.rejected_tokens, strict=True)
        ]

    @property
    def is_right(self) -> float:
        """The chance that what scores highest is the better one.

        Where k responses share the highest score and the chosen one is among them, 1 / k; of
        several chosen ones, whether the worst of them beats the best of the others.
        """
        pairs = self.pairs
        if len(pairs) == 1:
            return pairs[0].is_right
        if len(self.chosen) > 1:
            return float(self.gap > 0)
        best = max(*self.chosen, *self.rejected)
        return (best in self.chosen) / (1 + self.rejected.count(best))

    @property
    def gap(self) -> float:
        """The score of the worst chosen response minus that of the best rejected one."""
        return min(self.chosen) - max(self.rejected)

    @property
    def confidence(self) -> float:
        """The chance that a Bradley-Terry model gives to the response that scores highest."""
        scores = (*self.chosen, *self.rejected)
        best = max(scores)
        return 1 / math.fsum(math.exp(score - best) for score in scores)


def accuracy_of(contests: Sequence[Contest]) -> dict[str, Any]:
    """Return n, the share of contests that are right and its 95% interval."""
    right = [contest.is_right for contest in contests]
    interval = mean_interval(right)
    return {
        "n": len(contests),
        "accuracy": mean(right),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }


def report_contests(contests: Sequence[Contest]) -> dict[str, Any]:
    """Return accuracy, calibration, length bias and the spread of scores as JSON.

    As `pairwise.report_pairs` of all pairs; the accuracy is of contests, and by subset.
    """
    pairs = report_pairs([pair for contest in contests for pair in contest.pairs])
    subsets = dict.fromkeys(contest.subset for contest in contests if contest.subset)
    by_subset = {
        name: accuracy_of([contest for contest in contests if contest.subset == name])
        for name in subsets
    }
    return {
        **{key: value for key, value in pairs.items() if key not in ("by_flaw", "n")},
        **accuracy_of(contests),
        "pairs": pairs["n"],
        "by_subset": by_subset,
    }
