"""What came of learning from rewards, in sentences: over-optimised, above or below best-of-n.

Over-optimised is a policy whose own reward still rises while the gold score falls (Gao et al.
2022). Single rollouts are noise: quarters of the training are compared, by Welch's test.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from eval.statistics.drift import (
    LEAST_OF_A_QUARTER,
    QUARTERS,
    has_fallen,
    has_parted,
    is_higher,
    peak_of,
    quarters,
)
from eval.statistics.estimate import Estimate
from eval.statistics.intervals import student_interval
from pipeline.commands.export import without_places
from pipeline.report.formatting import estimate, interval, number
from pipeline.report.html.rollouts.best_of_n import at_equal_kl
from pipeline.report.rollouts import GOLD, KL, shares_without_reward, signs
from pipeline.rl.signs import describe_sign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.report.html.rollouts.best_of_n import BestOfN, EqualKL
    from pipeline.report.rollouts import Rollout

_FEW = 0.01  # of responses without a reward
_NEAR = 0.75  # of a KL, and its inverse: near it

SIGN = "A sign of reward hacking:"

Mood = Literal["gain", "loss", ""]


@dataclass(frozen=True)
class Said:
    """A sentence: its first words, the rest, and whether it is good news."""

    lead: str
    rest: str
    mood: Mood = ""


def verdicts(rollouts: Sequence[Rollout], score: str, best: BestOfN | None) -> tuple[Said, ...]:
    """Return what is to be said of a training; score: the metric of the reward's own score."""
    said = [_of_training(rollouts, score), *_of_signs(rollouts), _of_none(rollouts)]
    found = at_equal_kl(best, lambda row: row.gold) if best is not None else None
    if best is not None and found is not None:
        said.append(_of_best_of_n(best, found, rollouts))
    return tuple(each for each in said if each is not None)


def _of_training(rollouts: Sequence[Rollout], score: str) -> Said | None:
    """Return how the gold score went while the reward's own score went its way."""
    told = [rollout for rollout in rollouts if GOLD in rollout and score in rollout]
    if not any(score in rollout for rollout in rollouts):
        return None
    if not told:
        return Said("No gold score was measured:", "over-optimisation cannot be seen here.")
    parts = quarters([each[score] for each in told], [each[GOLD] for each in told])
    if not parts:
        least = QUARTERS * LEAST_OF_A_QUARTER
        return Said("Too few rollouts", f"({len(told)} of at least {least}) to tell a trend.")
    first, last, peak = parts[0], parts[-1], peak_of(parts)
    if has_fallen(parts):
        numbers = [int(told[place]["rollout"]) for place in (peak.begin, peak.end - 1)]
        since = f"since rollouts {numbers[0]} to {numbers[1]}"
        fell = f"the gold score fell from {_change(peak.golds, last.golds)}"
        if has_parted(parts):
            rose = f"the reward's own score rose from {_change(peak.proxies, last.proxies)}"
            return Said("Over-optimised:", f"{since} {rose} while {fell}.", "loss")
        return Said("The gold score fell:", f"{since} {fell}, the reward's own with it.", "loss")
    is_paid = is_higher(last.proxies, first.proxies)
    is_better = is_higher(last.golds, first.golds)
    paid = f"the reward's own score rose from {_change(first.proxies, last.proxies)}"
    better = f"the gold score from {_change(first.golds, last.golds)}"
    if is_better:
        also = f"{paid}, " if is_paid else ""
        return Said("No over-optimisation seen:", f"{also}{better}, first to last quarter.", "gain")
    if is_paid:
        return Said("Paid, not better:", f"{paid}, but {better} is no change that can be told.")
    return Said("Nothing learnt that can be told:", f"{better}, first to last quarter.")


def _of_signs(rollouts: Sequence[Rollout]) -> Iterator[Said]:
    """Yield the signs of reward hacking that showed, and whether one stopped training."""
    for shown in signs(rollouts):
        rest = f"{without_places(describe_sign(shown))}; told in rollout {shown.rollout}"
        ends = ", where training stopped." if shown.stops else "."
        yield Said(SIGN, f"{rest}{ends}", "loss")


def _of_none(rollouts: Sequence[Rollout]) -> Said | None:
    """Return which rewards gave None, and how often."""
    shares = shares_without_reward(rollouts)
    if not shares:
        return None
    each = ", ".join(f"{without_places(name)} for {share:.1%}" for name, share in shares.items())
    rest = f"{each} of the responses; it does not count for them, and what no reward scores is not"
    mood: Mood = "loss" if max(shares.values()) > _FEW else ""
    return Said("None instead of a reward:", f"{rest} trained on.", mood)


def _change(before: Sequence[float], after: Sequence[float]) -> str:
    return f"{number(fmean(before))} to {number(fmean(after))}"


def _of_best_of_n(best: BestOfN, found: EqualKL, rollouts: Sequence[Rollout]) -> Said:
    """Return whether the trained policy does better than choosing among the first one's answers."""
    where = f"on {best.prompts:,} held-out prompts" if best.prompts else "on held-out prompts"
    ours = f"{where} the final policy has a gold score of {estimate(found.policy)}"
    ours += f" at {number(found.policy_kl, 1)} nats"
    apart = ""
    if found.difference is not None:
        value = number(found.difference.value, sign=True)
        apart = f" (difference {value} {interval(found.difference, sign=True)})"
    if not found.is_beyond:
        rest = f"{ours}, best-of-n of the first policy {estimate(found.other)}{apart}."
        lead = {1: "Above best-of-n at equal KL:", -1: "Below best-of-n at equal KL:"}
        moods: dict[int, Mood] = {1: "gain", -1: "loss"}
        equal = "Level with best-of-n at equal KL, as far as can be told:"
        return Said(lead.get(found.side, equal), rest, moods.get(found.side, ""))
    of = f"best-of-{found.last_n}"
    rest = f"{ours}, {of} of the first policy {estimate(found.other)} at "
    rest += f"{number(found.other_kl, 1)}{apart}.{_on_the_way(rollouts, found)}"
    lead = {
        1: f"Above {of}, at a larger KL:",
        -1: f"Below {of}, in spite of a larger KL:",
    }.get(found.side, f"Level with {of}, at a larger KL:")
    return Said(lead, rest, "loss" if found.side < 0 else "")


def _on_the_way(rollouts: Sequence[Rollout], found: EqualKL) -> str:
    """Return what rollouts scored where they were about as far away as the last best-of-n."""
    near = [
        rollout[GOLD]
        for rollout in rollouts
        if GOLD in rollout
        and _NEAR * found.other_kl < rollout.get(KL, 0.0) < found.other_kl / _NEAR
    ]
    if len(near) < LEAST_OF_A_QUARTER:
        return ""
    ends = student_interval(near)
    mean = Estimate(fmean(near)) if ends is None else Estimate(fmean(near), ends.low, ends.high)
    return f" On the way, about there, its rollouts had {estimate(mean)} on their own prompts."
