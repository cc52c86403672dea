"""How far a judge agrees with people: accuracy, Cohen's kappa, bias for a place and for length.

Of pairs that people labelled, judged by whoever prefers one of two responses: a model that is asked
in both orders, or scores. Not win rates between models (win_rate.py), and not the calibration of
scores (pairwise.py). Imports no torch.

A tie, two orders that disagree, and no answer all say nothing about a pair. For the accuracy each
counts half, as a coin would be right; for kappa they are a third answer, which no label has.

Sources: Cohen 1960; Fleiss, Cohen and Everitt 1969 (the variance of kappa); Wang et al. 2023,
"Large Language Models are not Fair Evaluators" (both orders).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

from eval.statistics.estimate import Estimate
from eval.statistics.intervals import Interval, blaker, mean, mean_interval, paired_difference
from eval.statistics.win_rate import win_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

Side = Literal["first", "second"]
Verdict = Literal["first", "second", "tie"]

_HALVES = {0.0, 0.5, 1.0}


@dataclass(frozen=True)
class JudgedPair:
    """Two responses to a prompt, which of them people prefer, and what a judge said.

    label: the response that people prefer. in_order, swapped: the response (not the place) that the
    judge prefers when it reads the first one first, and when it reads the second one first; None
    where it gave no answer. lengths: of both responses, in one unit.
    """

    label: Side
    in_order: Verdict | None
    swapped: Verdict | None
    lengths: tuple[int, int]

    @property
    def verdict(self) -> Verdict | None:
        """What both orders agree on; a tie where they do not, None where one has no answer."""
        if self.in_order is None or self.swapped is None:
            return None
        return self.in_order if self.in_order == self.swapped else "tie"

    @property
    def longer(self) -> Verdict:
        """What a judge of length alone would prefer."""
        first, second = self.lengths
        return "tie" if first == second else "first" if first > second else "second"

    @property
    def first_place(self) -> float | None:
        """The share of the answered orders in which the response that was read first wins."""
        wins = [
            0.5 if said == "tie" else float(said == shown_first)
            for said, shown_first in ((self.in_order, "first"), (self.swapped, "second"))
            if said is not None
        ]
        return mean(wins) if wins else None

    def credit(self, verdict: Verdict | None) -> float:
        """Return how right a verdict is: 1, 0, or a half where it prefers neither."""
        return 0.5 if verdict in (None, "tie") else float(verdict == self.label)


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with people. Every Estimate has a 95% interval where it can have one.

    ties: verdicts that prefer neither, `orders_differ` of them because the orders disagree.
    unanswered: pairs without a verdict.
    accuracy: share of verdicts that are right; ties and no answer count half. kappa: beyond what
    the same answers would reach by chance; None where only one answer is ever given.
    longer_accuracy: of preferring the longer response; above_longer: the accuracy minus that.
    first_place: share of orders in which the response that is read first wins, 0.5 without a bias.
    disagreement: share of pairs whose orders disagree. Both None for scores, which know no order.
    longer_is_right, longer_is_preferred: by people and by the judge, of pairs whose lengths differ;
    length_bias: how much oftener the judge prefers the longer one than people do. None without any.
    """

    n: int
    ties: int
    orders_differ: int
    unanswered: int
    accuracy: Estimate
    kappa: Estimate | None
    longer_accuracy: Estimate
    above_longer: Estimate | None
    first_place: Estimate | None
    disagreement: Estimate | None
    longer_is_right: Estimate | None
    longer_is_preferred: Estimate | None
    length_bias: Estimate | None

    def metrics(self) -> dict[str, Any]:
        """Return every figure that there is, with the ends of its interval."""
        flat: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Estimate):
                flat[field.name] = value.value
                flat |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
            elif value is not None:
                flat[field.name] = value
        return flat


def measure_agreement(pairs: Sequence[JudgedPair], *, has_orders: bool = True) -> Agreement:
    """Return how far a judge agrees with people; ValueError without pairs.

    has_orders: False for scores, which are the same in both orders.
    """
    if not pairs:
        raise ValueError("no pair to agree on")
    verdicts: list[Verdict | None] = [pair.verdict for pair in pairs]
    right = [pair.credit(verdict) for pair, verdict in zip(pairs, verdicts, strict=True)]
    by_length = [pair.credit(pair.longer) for pair in pairs]
    both = [pair for pair in pairs if pair.verdict is not None]
    differing = sum(pair.in_order != pair.swapped for pair in both)
    places = [place for pair in pairs if (place := pair.first_place) is not None]
    is_right, is_preferred, bias = _length_bias(pairs)
    return Agreement(
        n=len(pairs),
        ties=verdicts.count("tie"),
        orders_differ=differing,
        unanswered=verdicts.count(None),
        accuracy=_share(right),
        kappa=cohens_kappa([pair.label for pair in pairs], [v or "tie" for v in verdicts]),
        longer_accuracy=_share(by_length),
        above_longer=_difference(right, by_length),
        first_place=_share(places) if has_orders and places else None,
        disagreement=_with(differing / len(both), blaker(differing, len(both)))
        if has_orders and both
        else None,
        longer_is_right=is_right,
        longer_is_preferred=is_preferred,
        length_bias=bias,
    )


def cohens_kappa(
    labels: Sequence[str], verdicts: Sequence[str], *, confidence: float = 0.95
) -> Estimate | None:
    """Return Cohen's kappa of two raters of the same items; None where chance alone would agree.

    The interval is the large-sample one of Fleiss, Cohen and Everitt (1969, eq. 13). Raters that
    always agree would have one of no length; they get that of their agreement, chance held fixed.
    """
    n = len(labels)
    if n == 0 or n != len(verdicts):
        raise ValueError(f"{n} labels and {len(verdicts)} verdicts")
    cells = Counter(zip(labels, verdicts, strict=True))
    theirs, ours = Counter(labels), Counter(verdicts)
    agreed = sum(count for (label, said), count in cells.items() if label == said)
    observed = agreed / n
    by_chance = sum(theirs[label] * ours[label] for label in theirs) / n**2
    if by_chance == 1:
        return None
    kappa = (observed - by_chance) / (1 - by_chance)
    if agreed == n:
        low = blaker(agreed, n, confidence).low
        return Estimate(1.0, (low - by_chance) / (1 - by_chance), 1.0)
    doubt = 1 - kappa
    on_diagonal = sum(
        count / n * (1 - (theirs[label] + ours[label]) / n * doubt) ** 2
        for (label, said), count in cells.items()
        if label == said
    )
    beside = doubt**2 * sum(
        count / n * ((ours[label] + theirs[said]) / n) ** 2
        for (label, said), count in cells.items()
        if label != said
    )
    variance = on_diagonal + beside - (kappa - by_chance * doubt) ** 2
    error = math.sqrt(max(variance, 0.0) / n) / (1 - by_chance)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(kappa, max(-1.0, kappa - reach), min(1.0, kappa + reach))


def _length_bias(
    pairs: Sequence[JudgedPair],
) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    """Return how often the longer response is right and is preferred, and the difference."""
    unequal = [pair for pair in pairs if pair.longer != "tie"]
    if not unequal:
        return None, None, None
    right = [float(pair.longer == pair.label) for pair in unequal]
    preferred = [
        0.5 if pair.verdict in (None, "tie") else float(pair.verdict == pair.longer)
        for pair in unequal
    ]
    return _share(right), _share(preferred), _difference(preferred, right)


def _share(values: Sequence[float]) -> Estimate:
    """Return the mean of shares with its interval: of 0, 0.5 and 1 as a win rate has it."""
    if set(values) <= _HALVES:
        return _with(*win_rate(values))
    return _with(mean(values), mean_interval(values))


def _difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    return _with(*paired_difference(a, b))


def _with(value: float, interval: Interval | None) -> Estimate:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Estimate(value, low, high)
