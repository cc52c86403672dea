"""The spread of a group: the mean distance of two members, and an interval that covers it."""

import random
from itertools import combinations
from statistics import fmean, pstdev, stdev

import pytest

from eval.statistics.spread import spread_shares


def apart(one: float, other: float) -> float:
    return abs(one - other)


def test_the_mean_of_the_shares_is_the_mean_distance_of_two_members():
    members, groups = [1.0, 4.0, 2.0, 9.0, 9.0, 0.5, 3.0], ["a", "b", "a", "b", "b", "a", "a"]
    shares = spread_shares(members, groups, apart)
    for group in "ab":
        own = [member for member, of in zip(members, groups, strict=True) if of == group]
        mean = fmean(apart(one, other) for one, other in combinations(own, 2))
        found = [share for share, of in zip(shares, groups, strict=True) if of == group]
        assert fmean(share for share in found if share is not None) == pytest.approx(mean)


def test_the_deviation_of_the_shares_is_that_of_the_spread():
    """The plain mean distance to the others, which has the same mean, has half of it."""
    drawn = random.Random(0)
    number, errors, spreads, naive = 40, [], [], []
    for _ in range(300):
        members = [drawn.gauss(0, 1) for _ in range(number)]
        shares = spread_shares(members, ["a"] * number, apart)
        spreads.append(fmean(share for share in shares if share is not None))
        errors.append(stdev(share for share in shares if share is not None) / number**0.5)
        plain = [sum(apart(one, other) for other in members) / (number - 1) for one in members]
        naive.append(stdev(plain) / number**0.5)
    assert 0.8 < fmean(errors) / pstdev(spreads) < 1.25
    assert fmean(naive) / pstdev(spreads) < 0.65


def test_what_is_no_member_and_groups_too_small_have_no_share():
    shares = spread_shares([1.0, None, 2.0, 4.0, 1.0, 2.0], ["a", "a", "a", "a", "b", "b"], apart)
    assert [share is None for share in shares] == [False, True, False, False, True, True]


def test_a_group_that_is_the_same_again_and_again_has_no_spread():
    assert spread_shares([2.0] * 5, ["a"] * 5, apart) == [0.0] * 5
