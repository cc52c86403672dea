"""Best-of-n of the policy that a training began with, and what it became, on the same prompts.

The best of n responses by the reward's score is the policy that a reward allows without training;
its KL is at most log n - (n - 1) / n (Stiennon et al. 2020; a bound: Beirami et al. 2024). What
training adds shows at equal KL only (Gao et al. 2022). Read from best_of_n.json.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from eval.statistics.estimate import Estimate
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import BEST_OF_N

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_AWAY_BY = 0.01  # nats: a policy less far beyond the last row is compared with it all the same


@dataclass(frozen=True)
class HeldOut:
    """What a policy scores on held-out prompts.

    n: of best-of-n, 0 for the trained policy. kl: nats a response. gold, score: None where nothing
    was measured; terms: the rewards that the score is made of.
    """

    n: int
    kl: float
    gold: Estimate | None
    score: Estimate | None
    terms: Mapping[str, Estimate]


@dataclass(frozen=True)
class BestOfN:
    """Best-of-n by growing n, and the trained policy. prompts: how many, None if not told."""

    prompts: int | None
    rows: tuple[HeldOut, ...]
    policy: HeldOut | None


@dataclass(frozen=True)
class EqualKL:
    """The trained policy's figure beside that of best-of-n at the same KL.

    is_beyond: the policy is further away than best-of-n was taken; `other` is its last row then,
    at `other_kl`. difference: None without intervals.
    """

    policy: Estimate
    policy_kl: float
    other: Estimate
    other_kl: float
    last_n: int
    is_beyond: bool
    difference: Estimate | None

    @property
    def side(self) -> int:
        """1 where the policy is above, -1 where below, 0 where that cannot be told."""
        return 0 if self.difference is None else self.difference.side_of(0)


def read_best_of_n(folder: Path) -> BestOfN | None:
    """Return what best_of_n.json says; None without one. Raises CorruptArtifactError."""
    path = folder / BEST_OF_N
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows = [_row(row, int(row["n"])) for row in raw.get("rows") or []]
        found = [row for row in rows if row is not None and row.n > 0]
        policy = _row(raw["policy"], 0) if raw.get("policy") else None
        prompts = raw.get("prompts")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error
    return BestOfN(
        int(prompts) if isinstance(prompts, int) else None,
        tuple(sorted(found, key=lambda row: row.n)),
        policy,
    )


def _row(raw: Mapping[str, Any], n: int) -> HeldOut | None:
    kl = _number(raw.get("kl"))
    if kl is None:
        if n < 1:
            return None
        kl = max(0.0, math.log(n) - (n - 1) / n)
    terms = {
        str(name): Estimate(value)
        for name, found in (raw.get("scores") or {}).items()
        if (value := _number(found)) is not None
    }
    return HeldOut(n, kl, _estimate(raw, "gold"), _estimate(raw, "score"), terms)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def _estimate(raw: Mapping[str, Any], key: str) -> Estimate | None:
    value = _number(raw.get(key))
    if value is None:
        return None
    return Estimate(value, _number(raw.get(f"{key}_low")), _number(raw.get(f"{key}_high")))


def at_equal_kl(best: BestOfN, of: Callable[[HeldOut], Estimate | None]) -> EqualKL | None:
    """Compare the trained policy with best-of-n at its KL; None where one was not measured.

    Between two rows best-of-n is on the straight line of both over the root of KL, as drawn.
    """
    rows = [(row.kl, row.n, found) for row in best.rows if (found := of(row)) is not None]
    ours = of(best.policy) if best.policy is not None else None
    if best.policy is None or ours is None or not rows:
        return None
    kl, (last_kl, last_n, last) = best.policy.kl, rows[-1]
    other, other_kl = last, last_kl
    if kl <= rows[0][0]:
        other, other_kl = rows[0][2], rows[0][0]
    for (left, _, low), (right, _, high) in pairwise(rows):
        if left < kl <= right:
            start, end = math.sqrt(left), math.sqrt(right)
            share = (math.sqrt(kl) - start) / (end - start)
            other, other_kl = _between(low, high, share), kl
    return EqualKL(
        policy=ours,
        policy_kl=kl,
        other=other,
        other_kl=other_kl,
        last_n=last_n,
        is_beyond=kl > last_kl + _AWAY_BY,
        difference=_difference(ours, other),
    )


def _between(left: Estimate, right: Estimate, share: float) -> Estimate:
    def mixed(low: float | None, high: float | None) -> float | None:
        return None if low is None or high is None else low + share * (high - low)

    return Estimate(
        left.value + share * (right.value - left.value),
        mixed(left.low, right.low),
        mixed(left.high, right.high),
    )


def _difference(a: Estimate, b: Estimate) -> Estimate | None:
    """Return a - b with the interval of two independent figures (Newcombe 1998, method 10).

    Both are means over the same prompts, which makes it too wide rather than too narrow.
    """
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    value = a.value - b.value
    return Estimate(
        value,
        value - math.hypot(a.value - a.low, b.high - b.value),
        value + math.hypot(a.high - a.value, b.value - b.low),
    )
