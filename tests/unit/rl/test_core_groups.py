"""Advantages without a critic: golden values by hand, and a loop over rows as each one's oracle."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from pipeline.rl.core import (
    Scale,
    group_advantages,
    group_means,
    group_spread,
    leave_one_out_advantages,
    overlong_penalty,
    reinforce_advantages,
    token_rewards,
)

SCALES: list[Scale] = ["group", "batch", "none"]
SCORES = [1.0, 0.0, 0.0, 1.0, 3.0, 5.0]
GROUPS = [7, 7, 7, 7, 2, 2]


def tensor(numbers: list) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def assert_close(found: Tensor, expected: list, tolerance: float = 1e-7) -> None:
    torch.testing.assert_close(found, tensor(expected), atol=tolerance, rtol=0)


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor]:
    """Return scores of 40 rows, some of them equal, in shuffled groups of 1 to 9 rows."""
    generator = torch.Generator().manual_seed(5)
    groups = torch.repeat_interleave(torch.arange(10), torch.tensor([1, 9, 4, 4, 4, 4, 2, 6, 1, 5]))
    groups = groups[torch.randperm(40, generator=generator)] * 3 - 7
    scores = torch.randn(40, generator=generator, dtype=torch.float64).round(decimals=1)
    return torch.where(groups == 2, 0.1, scores), groups


def others(scores: Tensor, groups: Tensor, row: int) -> list[float]:
    rows = [i for i in range(len(scores)) if groups[i] == groups[row]]
    return [float(scores[i]) for i in rows]


def group_loop(scores: Tensor, groups: Tensor, scale: Scale, ddof: int) -> list[float]:
    found = []
    for row, score in enumerate(scores.tolist()):
        among = {"group": others(scores, groups, row), "batch": scores.tolist(), "none": []}[scale]
        mean = statistics.fmean(others(scores, groups, row))
        deviation = statistics.stdev if ddof else statistics.pstdev
        spread = deviation(among) if len(among) > 1 else 0.0
        found.append((score - mean) / (1.0 if scale == "none" else spread + 1e-4))
    return found


@pytest.mark.parametrize(
    ("scale", "ddof", "advantages"),
    [
        # Standard deviations: sqrt(1/3) and sqrt(2) unbiased, 1/2 and 1 biased.
        (
            "group",
            1,
            [*(x * 0.5 / (3**-0.5 + 1e-4) for x in (1, -1, -1, 1)), -0.7070568, 0.7070568],
        ),
        ("group", 0, [*(x * 0.5 / 0.5001 for x in (1, -1, -1, 1)), -0.99990001, 0.99990001]),
        # Of all six: mean 5/3, squares add up to 36 - 6 * 25/9 = 58/3.
        ("batch", 1, [x / (math.sqrt(58 / 15) + 1e-4) for x in (0.5, -0.5, -0.5, 0.5, -1, 1)]),
        ("batch", 0, [x / (math.sqrt(58 / 18) + 1e-4) for x in (0.5, -0.5, -0.5, 0.5, -1, 1)]),
        ("none", 1, [0.5, -0.5, -0.5, 0.5, -1, 1]),
    ],
)
def test_group_advantages_of_six_rows(scale: Scale, ddof: int, advantages: list[float]) -> None:
    found = group_advantages(tensor(SCORES), torch.tensor(GROUPS), scale=scale, ddof=ddof)
    assert_close(found, advantages)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("ddof", [0, 1])
def test_group_advantages_are_those_of_a_loop(drawn, scale: Scale, ddof: int) -> None:
    scores, groups = drawn
    found = group_advantages(scores, groups, scale=scale, ddof=ddof)
    assert_close(found, group_loop(scores, groups, scale, ddof), tolerance=1e-9)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("score", [0.1, 0.7, 1 / 3, 1e6 / 3, -0.1])
def test_a_group_without_spread_gets_0_and_no_rounding_error(scale: Scale, score: float) -> None:
    """In single precision the mean of equal scores may be another number, and 1e-4 divides it."""
    scores = torch.tensor([score] * 7 + [0.0, 1.0])
    groups = torch.tensor([0] * 7 + [1, 1])
    found = group_advantages(scores, groups, scale=scale)
    assert found[:7].tolist() == [0.0] * 7
    assert found[7] < 0 < found[8]
    assert leave_one_out_advantages(scores, groups)[:7].tolist() == [0.0] * 7
    assert group_spread(scores, groups).tolist() == [False] * 7 + [True] * 2


@pytest.mark.parametrize("scale", SCALES)
def test_a_row_that_is_alone_gets_0(scale: Scale) -> None:
    scores, groups = tensor([5, 1, 2]), torch.tensor([4, 0, 0])
    assert group_advantages(scores, groups, scale=scale)[0] == 0
    assert group_advantages(scores[:1], groups[:1], scale=scale).tolist() == [0]
    assert group_spread(scores, groups).tolist() == [False, True, True]
    for normalize in (False, True):
        found = leave_one_out_advantages(scores, groups, normalize=normalize)
        assert found[0] == 0
        assert found[2] > 0
        alone = leave_one_out_advantages(scores[:1], groups[:1], normalize=normalize)
        assert alone.tolist() == [0]


def test_leave_one_out_advantages_of_six_rows() -> None:
    found = leave_one_out_advantages(tensor(SCORES), torch.tensor(GROUPS))
    assert_close(found, [2 / 3, -2 / 3, -2 / 3, 2 / 3, -2, 2])


@pytest.mark.parametrize("normalize", [False, True])
def test_leave_one_out_advantages_are_those_of_a_loop(drawn, normalize: bool) -> None:
    scores, groups = drawn
    expected, company = [], []
    for row, score in enumerate(scores.tolist()):
        group = others(scores, groups, row)
        company.append(len(group) > 1)
        rest = (math.fsum(group) - score) / max(len(group) - 1, 1)
        expected.append(score - rest if company[-1] else 0.0)
    if normalize:
        among = [x for x, has_others in zip(expected, company, strict=True) if has_others]
        mean, spread = statistics.fmean(among), statistics.stdev(among) + 1e-4
        expected = [(x - mean) / spread * has for x, has in zip(expected, company, strict=True)]
    found = leave_one_out_advantages(scores, groups, normalize=normalize)
    assert_close(found, expected, tolerance=1e-9)


def test_leaving_one_out_makes_the_distance_to_the_mean_larger_by_n_over_n_minus_1(drawn) -> None:
    scores, groups = drawn
    sizes = (groups[:, None] == groups[None]).sum(1)
    centred = group_advantages(scores, groups, scale="none")
    expected = centred * sizes / (sizes - 1).clamp(min=1)
    torch.testing.assert_close(leave_one_out_advantages(scores, groups), expected)


def test_the_order_of_rows_and_the_names_of_groups_change_nothing(drawn) -> None:
    scores, groups = drawn
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    for scale in SCALES:
        expected = group_advantages(scores, groups, scale=scale)[order]
        found = group_advantages(scores[order], -2 * groups[order], scale=scale)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    expected = leave_one_out_advantages(scores, groups)[order]
    found = leave_one_out_advantages(scores[order], -2 * groups[order])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert torch.equal(
        group_spread(scores[order], -2 * groups[order]), group_spread(scores, groups)[order]
    )


def test_advantages_have_the_precision_of_scores() -> None:
    scores, groups = torch.tensor(SCORES), torch.tensor(GROUPS)
    for found in (
        group_advantages(scores, groups, scale="group"),
        leave_one_out_advantages(scores, groups, normalize=True),
        group_means(scores, groups),
    ):
        assert found.dtype == torch.float32
    assert group_means(scores, groups).tolist() == [0.5] * 4 + [4.0] * 2


def test_reinforce_advantages_of_four_tokens() -> None:
    """Returns 1.8, 0.9, masked; 2, 2: mean 1.675, biased variance 0.206875, by hand."""
    rewards = tensor([[0.9, 0.9, 7], [0, 2, 7]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]], dtype=torch.bool)
    spread = math.sqrt(0.206875)
    expected = [[0.125 / spread, -0.775 / spread, 0], [0.325 / spread, 0.325 / spread, 0]]
    found = reinforce_advantages(rewards, mask)
    assert_close(found, expected)
    # A baseline of 2 for the second row: returns 1.8, 0.9, 0, 0; mean 0.675, variance 0.556875.
    spread = math.sqrt(0.556875)
    expected = [[1.125 / spread, 0.225 / spread, 0], [-0.675 / spread, -0.675 / spread, 0]]
    found = reinforce_advantages(rewards, mask, baseline=tensor([0, 2]))
    assert_close(found, expected)


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("has_baseline", [False, True])
def test_reinforce_advantages_are_those_of_a_loop(discount: float, has_baseline: bool) -> None:
    """A token's KL counts for it and all before it, over masked ones in the middle."""
    generator = torch.Generator().manual_seed(3)
    kl = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 7, generator=generator) < 0.7
    scores = torch.randn(6, generator=generator, dtype=torch.float64)
    baseline = group_means(scores, torch.tensor([0, 0, 1, 1, 1, 2])) if has_baseline else None
    rewards = token_rewards(kl, scores, mask, kl_coef=0.1)
    returns: dict[tuple[int, int], float] = {}
    for row in range(6):
        after = 0.0
        for t in reversed(mask[row].nonzero().flatten().tolist()):
            after = float(rewards[row, t]) + discount * after
            returns[row, t] = after - (float(baseline[row]) if baseline is not None else 0.0)
    mean, spread = statistics.fmean(returns.values()), statistics.pstdev(returns.values())
    expected = [[(returns.get((i, t), mean) - mean) / spread for t in range(7)] for i in range(6)]
    found = reinforce_advantages(rewards, mask, discount=discount, baseline=baseline)
    assert_close(found, expected)


def test_a_long_response_is_paid_less_the_longer_it_is() -> None:
    lengths = torch.tensor([0, 12, 13, 14, 16, 17, 40])
    found = overlong_penalty(lengths, longest=16, cache=4)
    assert found.tolist() == [0, 0, -0.25, -0.5, -1, -1, -1]
    assert overlong_penalty(lengths, longest=16, cache=0).tolist() == [0, 0, 0, 0, 0, -1, -1]
