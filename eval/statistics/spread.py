"""How far the members of a group lie apart, member by member, so that intervals can be taken.

The mean distance of two members is a U-statistic. Each member's mean distance to the others has the
same mean, but about half of the deviation that the statistic has; the jackknife's pseudo-values
have both (Arvesen 1969, "Jackknifing U-statistics").
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeVar

Member = TypeVar("Member")
_FEWEST = 3  # of a group, so that one may be left out


def spread_shares(
    members: Sequence[Member | None],
    groups: Sequence[str],
    distance: Callable[[Member, Member], float],
) -> list[float | None]:
    """Return each member's share in the mean distance of two members of its group.

    Its mean over a group is that distance, and its variance over the group's size that of the
    distance. None for what is no member, and in groups of less than three.
    """
    shares: list[float | None] = [None] * len(members)
    for group in dict.fromkeys(groups):
        places = [
            place
            for place, (member, of) in enumerate(zip(members, groups, strict=True))
            if of == group and member is not None
        ]
        if len(places) < _FEWEST:
            continue
        found = [member for place in places if (member := members[place]) is not None]
        for place, share in zip(places, _pseudo_values(found, distance), strict=True):
            shares[place] = share
    return shares


def _pseudo_values(
    members: Sequence[Member], distance: Callable[[Member, Member], float]
) -> list[float]:
    """Return n U - (n - 1) U without the member, for each, where U is the mean distance of two."""
    number = len(members)
    totals = [0.0] * number
    for one, other in combinations(range(number), 2):
        apart = distance(members[one], members[other])
        totals[one] += apart
        totals[other] += apart
    whole = sum(totals) / 2
    mean = whole / (number * (number - 1) / 2)
    without = [(whole - total) / ((number - 1) * (number - 2) / 2) for total in totals]
    return [number * mean - (number - 1) * left for left in without]
