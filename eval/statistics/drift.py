"""Whether a series of means, one after the other, has moved by more than chance.

For means of equal batches, such as the rollouts of a training: neighbours are compared as samples,
by Welch's test. A proxy that is over-optimised still rises where what it stands for falls (Gao,
Schulman and Hilton 2023, "Scaling laws for reward model overoptimization").
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

QUARTERS = 4
LEAST_OF_A_QUARTER = 4  # means
LEVEL = 0.025  # one-sided
# Of each look at a series that grows, so that all looks together are wrong in at most one of ten
# series (a gold score that stays, a proxy that rises; 64 to 1,000 means, tests/unit/eval).
LEVEL_OF_A_LOOK = 0.001


@dataclass(frozen=True)
class Quarter:
    """Consecutive means, [begin, end), of a proxy and of what it stands for."""

    begin: int
    end: int
    proxies: Sequence[float]
    golds: Sequence[float]


def is_higher(
    these: Sequence[float], others: Sequence[float], *, trials: int = 1, level: float = LEVEL
) -> bool:
    """Whether a mean is higher by more than chance (Welch's test, one-sided).

    trials: of how many the most striking (Bonferroni). Two series without any spread differ by more
    than chance whenever they differ.
    """
    from scipy.stats import ttest_ind_from_stats  # takes long to import

    if fmean(these) <= fmean(others):
        return False
    if np.ptp(these) == 0 and np.ptp(others) == 0:
        return True
    # Of moments, since scipy warns of a sample without spread, as shares near 0 often are.
    moments = [m for s in (these, others) for m in (np.mean(s), np.std(s, ddof=1), len(s))]
    found: Any = ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")
    return bool(found.pvalue * trials < level)


def quarters(proxies: Sequence[float], golds: Sequence[float]) -> list[Quarter]:
    """Return the quarters of two series of the same length; none of fewer than 16 means."""
    number = len(golds)
    if number < QUARTERS * LEAST_OF_A_QUARTER:
        return []
    ends = [round(place * number / QUARTERS) for place in range(QUARTERS + 1)]
    return [
        Quarter(begin, end, proxies[begin:end], golds[begin:end])
        for begin, end in itertools.pairwise(ends)
    ]


def peak_of(parts: Sequence[Quarter]) -> Quarter:
    """Return the quarter before the last whose gold mean is the highest."""
    return max(parts[:-1], key=lambda part: fmean(part.golds))


def has_fallen(parts: Sequence[Quarter], *, level: float = LEVEL) -> bool:
    """Whether the last quarter's gold mean is below the highest of the others."""
    peak = peak_of(parts)
    return is_higher(peak.golds, parts[-1].golds, trials=QUARTERS - 1, level=level)


def has_parted(parts: Sequence[Quarter], *, level: float = LEVEL) -> bool:
    """Whether the gold mean has fallen from its highest while the proxy has risen since.

    level: of the fall; the rise is told at the usual one.
    """
    has_turned = has_fallen(parts, level=level)
    return has_turned and is_higher(parts[-1].proxies, peak_of(parts).proxies)


def is_look(number: int) -> bool:
    """Whether quarters of so many means are to be looked at: each time they have grown by a tenth.

    Else a series that is looked at after each of its means would be looked at too often to believe
    what is found.
    """
    look = QUARTERS * LEAST_OF_A_QUARTER
    while look < number:
        look += max(1, look // 10)
    return look == number
