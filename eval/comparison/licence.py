"""Whether a judge may label or reward: an exam on pairs that people labelled.

It is admitted if it agrees with people more than a coin and more than "the longer response is
better" would, each with the whole 95% interval on its side. A judge that cannot be told from either
on these pairs teaches nothing, or teaches length. The statistics are
`eval.statistics.agreement`'s. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.statistics.agreement import Agreement, JudgedPair, measure_agreement
from eval.statistics.estimate import Estimate, estimate_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHANCE = 0.5


@dataclass(frozen=True)
class Licence:
    """What came of an exam. why: the figures that decided, as one clause of a sentence."""

    is_admitted: bool
    why: str
    figures: Agreement

    def metrics(self) -> dict[str, Any]:
        """Return whether it is admitted, and every figure with the ends of its interval."""
        return {"admitted": self.is_admitted, **self.figures.metrics()}


def examine(pairs: Sequence[JudgedPair], *, has_orders: bool = True) -> Licence:
    """Return whether whoever judged these pairs is admitted; ValueError without pairs.

    A tie, orders that disagree and no answer count half, so that a judge gains nothing by leaving
    out what it is unsure of. has_orders: False for scores, which are the same in both orders.
    """
    return decide(measure_agreement(pairs, has_orders=has_orders))


def decide(figures: Agreement) -> Licence:
    """Return whether figures admit; where those of length are not known, chance alone decides."""
    stated = f"it is right on {_shown(figures.accuracy)} of {figures.n} labelled pairs"
    side = figures.accuracy.side_of(CHANCE)
    if side <= 0:
        against = "which is worse than chance (0.50)" if side else "which may be chance (0.50)"
        return Licence(False, f"{stated}, {against}{_silence(figures)}", figures)
    if figures.above_longer is None:
        return Licence(True, stated, figures)
    above = f"`the longer one` is right on {figures.longer_accuracy.value:.2f}"
    above += f", {_shown(figures.above_longer, sign=True)} apart"
    if figures.above_longer.side_of(0.0) <= 0:
        return Licence(False, f"{stated}, and may be no better than length: {above}", figures)
    return Licence(True, f"{stated}; {above}", figures)


def recorded_licence(held_out: Mapping[str, Any]) -> Licence:
    """Return what the record of held-out pairs says (`eval.statistics.pairwise.report_pairs`)."""
    length: Mapping[str, Any] = held_out["length"]
    above = estimate_of(
        length.get("above_longer"),
        length.get("above_longer_low"),
        length.get("above_longer_high"),
    )
    figures = Agreement(
        n=held_out["n"],
        ties=0,
        orders_differ=0,
        unanswered=0,
        accuracy=Estimate(held_out["accuracy"], held_out["low"], held_out["high"]),
        kappa=None,
        longer_accuracy=Estimate(length["longer_is_chosen"]),
        above_longer=above,
        first_place=None,
        disagreement=None,
        longer_is_right=None,
        longer_is_preferred=None,
        length_bias=None,
    )
    return decide(figures)


def _silence(figures: Agreement) -> str:
    """Return how many pairs have no verdict, where that is why the accuracy is near a half."""
    parts = [
        (figures.orders_differ, "got another answer in the other order"),
        (figures.unanswered, "got no answer"),
    ]
    said = [f"{count} {what}" for count, what in parts if count]
    return f" ({', '.join(said)})" if said else ""


def _shown(figure: Estimate, *, sign: bool = False) -> str:
    form = "+.2f" if sign else ".2f"
    if figure.low is None or figure.high is None:
        return f"{figure.value:{form}}"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"
