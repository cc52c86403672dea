"""PPO's mathematics at points whose values were computed apart from it, by hand or on paper.

Not its treatment of masks: test_core_masks.py; not what it keeps from rollout to rollout:
test_core_state.py. All in double precision.
"""

import math

import pytest
import torch
from torch import Tensor

from pipeline.rl.core import (
    Estimator,
    explained_variance,
    gae,
    kl_estimate,
    masked_moments,
    masked_sum,
    policy_loss,
    token_rewards,
    token_weights,
    value_loss,
    whiten,
)

REWARD_AT_THE_END = [0.0, 0.0, 0.0, 1.0]
VALUES = [0.5, 0.4, 0.3, 0.2]
ARMS = ([0.7, 0.3], [0.5, 0.5])  # policy and reference of a bandit with two arms


def tensor(numbers: list | float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def valid(numbers: list) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)


def assert_close(found: Tensor, expected: list | float, tolerance: float = 1e-7) -> None:
    torch.testing.assert_close(found, tensor(expected), atol=tolerance, rtol=0)


def of_one_row(
    rewards: list[float], values: list[float], discount: float, trace: float, **more: Tensor
) -> Tensor:
    """Return the advantages of a row without masked tokens."""
    mask = torch.ones(1, len(rewards), dtype=torch.bool)
    found = gae(tensor([rewards]), tensor([values]), mask, discount=discount, trace=trace, **more)
    return found[0]


@pytest.mark.parametrize(
    ("rewards", "discount", "trace", "advantages"),
    [
        (REWARD_AT_THE_END, 1.0, 0.95, [0.40065, 0.527, 0.66, 0.8]),
        (REWARD_AT_THE_END, 1.0, 1.0, [0.5, 0.6, 0.7, 0.8]),
        (REWARD_AT_THE_END, 1.0, 0.0, [-0.1, -0.1, -0.1, 0.8]),
        (REWARD_AT_THE_END, 0.9, 0.8, [0.0027904, 0.19832, 0.456, 0.8]),
        ([-0.05, 0.02, -0.01, 0.97], 1.0, 0.95, [0.33490375, 0.510425, 0.6215, 0.77]),
    ],
)
def test_advantages_of_four_tokens(
    rewards: list[float], discount: float, trace: float, advantages: list[float]
) -> None:
    found = of_one_row(rewards, VALUES, discount, trace)
    assert_close(found, advantages)
    returns = [a + v for a, v in zip(advantages, VALUES, strict=True)]
    assert_close(found + tensor(VALUES), returns)


def test_returns_are_those_of_the_golden_table() -> None:
    def returns(rewards: list[float], trace: float) -> Tensor:
        return of_one_row(rewards, VALUES, 1.0, trace) + tensor(VALUES)

    assert_close(returns(REWARD_AT_THE_END, 0.95), [0.90065, 0.927, 0.96, 1.0])
    assert_close(returns(REWARD_AT_THE_END, 1.0), [1.0, 1.0, 1.0, 1.0])
    assert_close(returns(REWARD_AT_THE_END, 0.0), [0.4, 0.3, 0.2, 1.0])
    with_kl = returns([-0.05, 0.02, -0.01, 0.97], 0.95)
    assert_close(with_kl, [0.83490375, 0.910425, 0.9215, 0.97])


def test_values_after_the_end_are_not_bootstrapped_from() -> None:
    """B14: what stands after the end, values as well as rewards, does not reach valid tokens."""
    values, mask = tensor([[0.5, 0.4, 100, -100]]), valid([[1, 1, 0, 0]])
    found = gae(tensor([[-0.1, 0.9, 7, 7]]), values, mask, discount=1.0, trace=0.95)
    assert_close(found, [[0.275, 0.5, 0, 0]])
    assert_close(torch.where(mask, found + values, 0), [[0.775, 0.9, 0, 0]])

    one_value = tensor([[0, 0, 100]]), valid([[1, 1, 0]])
    found = gae(tensor([[0, 1, 0]]), *one_value, discount=1.0, trace=0.95)
    assert_close(found, [[0.95, 1, 0]])  # 5.70 with the value after the end


def test_the_score_is_earned_by_the_last_token() -> None:
    """B03: the score stands at the last valid token, the stop token, not at the pad after it."""
    mask = valid([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    kl = tensor([[1, 2, 50], [1, 2, 3], [1, 50, 50]])
    found = token_rewards(kl, tensor([1, 2, 3]), mask, kl_coef=0.1)
    assert_close(found, [[-0.1, 0.8, 0], [-0.1, -0.2, 1.7], [2.9, 0, 0]])


def test_a_tools_tokens_in_the_middle_do_not_move_the_score() -> None:
    """B03: the last valid token is meant, not as many tokens from the start as are valid."""
    mask = valid([[1, 0, 0, 1, 0]])
    found = token_rewards(torch.zeros(1, 5).double(), tensor([1]), mask, kl_coef=0.1)
    assert_close(found, [[0, 0, 0, 1, 0]])


def test_the_score_is_discounted_by_the_trace_as_often_as_there_are_tokens() -> None:
    """B04: a score at the pad, with the pad's value in the scan, is discounted once more."""
    values, mask = tensor([[0.2, 0.4, 0.6]]), valid([[1, 1, 0]])
    rewards = token_rewards(torch.zeros_like(values), tensor([1]), mask, kl_coef=0.05)
    ours = gae(rewards, values, mask, discount=1.0, trace=0.95)
    assert_close(ours, [[0.77, 0.60, 0]])

    one_more = valid([[1, 1, 1]])  # TRL's convention, with the same functions
    rewards = token_rewards(torch.zeros_like(values), tensor([1]), one_more, kl_coef=0.05)
    theirs = gae(rewards, values, one_more, discount=1.0, trace=0.95)
    assert_close(theirs, [[0.751, 0.58, 0.4]])


def test_a_response_cut_at_the_limit_may_hand_on_the_value_after_it() -> None:
    """B57: with `bootstrap` a cut response of reward 0 is not taken for a failed one."""
    found = of_one_row([0, 0], [0.5, 0.4], 1.0, 0.95, bootstrap=tensor([0.7]))
    assert_close(found, [0.185, 0.3])
    assert_close(found + tensor([0.5, 0.4]), [0.685, 0.7])
    without = of_one_row([0, 0], [0.5, 0.4], 1.0, 0.95)
    assert_close(without, [-0.48, -0.4])


def test_the_bootstrapped_value_stands_after_the_last_valid_token_of_each_row() -> None:
    """B57: a short row takes its own value, past the pads; a row that ended takes 0."""
    rewards, values = torch.zeros(3, 4).double(), tensor([[0.5, 0.4, 9, 9]]).repeat(3, 1)
    mask = valid([[1, 1, 0, 0]]).repeat(3, 1)
    after = tensor([0.7, 0.0, -0.3])
    found = gae(rewards, values, mask, discount=0.9, trace=0.95, bootstrap=after)
    for row, value in enumerate(after):
        alone = of_one_row([0, 0], [0.5, 0.4], 0.9, 0.95, bootstrap=value[None])
        assert_close(found[row, :2], alone.tolist())


def test_whitening_three_numbers_and_a_pad() -> None:
    """B13: moments are those of valid tokens, with the biased variance."""
    x, mask = tensor([[1, 2, 3, 99]]), valid([[1, 1, 1, 0]])
    assert_close(whiten(x, mask), [[-1.22474486, 0, 1.22474486, 0]])
    unshifted = whiten(x, mask, shift_mean=False)
    assert_close(unshifted, [[0.77525514, 2, 3.22474486, 0]])
    mean, variance = masked_moments(x, mask)
    unbiased = (x - mean) * torch.rsqrt(variance * 3 / 2 + 1e-8)
    assert_close(unbiased[:, :3], [[-1, 0, 1]])


def test_moments_leave_pads_out_of_both_sum_and_count() -> None:
    """B13: not 2.625 and 4.484375, which pads of 0 would make of it."""
    mask = valid([[1, 1, 0, 0], [1, 1, 1, 1]])
    mean, variance = masked_moments(tensor([[1, 2, 0, 0], [3, 4, 5, 6]]), mask)
    assert_close(mean, 3.5)
    assert_close(variance, 2.9166667)


@pytest.mark.parametrize("num_valid", [0, 1])
def test_whitening_one_number_or_none_gives_zeros(num_valid: int) -> None:
    """B12: no division by the zero spread of a single number."""
    mask = torch.arange(4)[None] < num_valid
    for shift_mean in (True, False):
        assert_close(whiten(tensor([[3, 5, 7, 9]]), mask, shift_mean=shift_mean), [[0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("estimator", "estimates", "mean", "deviation"),
    [
        ("k1", [0.33647222, -0.51082562], 0.08228287, 0.38828),
        ("k2", [0.05660678, 0.13047139], 0.07876616, 0.03385),
        ("k3", [0.05075795, 0.15584102], 0.08228287, 0.04816),
    ],
)
def test_estimates_of_the_kl_of_a_bandit(
    estimator: Estimator, estimates: list[float], mean: float, deviation: float
) -> None:
    """B09: log policy - log reference, so that its mean under the policy is KL >= 0."""
    policy, reference = map(tensor, ARMS)
    found = kl_estimate((policy / reference).log(), estimator)
    assert_close(found, estimates)
    expected = (policy * found).sum()
    assert_close(expected, mean)
    assert_close((policy * (found - expected) ** 2).sum().sqrt(), deviation, tolerance=1e-5)


@pytest.mark.parametrize(("estimator", "gradient"), [("k1", 0.0), ("k2", 0.17793255), ("k3", 0.2)])
def test_only_k2_may_be_a_loss(estimator: Estimator, gradient: float) -> None:
    """B10: of the estimators' gradients only k2's is, in the mean, that of the KL."""
    policy, reference = map(tensor, ARMS)
    logits = policy.log().requires_grad_()
    estimates = kl_estimate(logits.log_softmax(0) - reference.log(), estimator)
    (policy * estimates).sum().backward()  # the arms are drawn: no gradient through their chances
    assert_close(_gradient(logits)[0], gradient)


def test_the_penalty_in_the_reward_pulls_towards_the_reference() -> None:
    """B09: REINFORCE on the rewards of both arms goes down the true KL, by its exact gradient."""
    policy, reference = map(tensor, ARMS)
    logits = policy.log().requires_grad_()
    log_policy = logits.log_softmax(0)
    kl = kl_estimate((log_policy - reference.log()).detach(), "k1")[:, None]
    rewards = token_rewards(kl, tensor([0, 0]), valid([[1], [1]]), kl_coef=0.5)
    (policy * rewards[:, 0] * log_policy).sum().backward()
    assert_close(_gradient(logits), [-0.5 * 0.17793255, 0.5 * 0.17793255])


def test_a_far_policy_is_penalised_by_its_whole_log_ratio() -> None:
    """B11: k1 is not clamped, and not k3, which would be 3 million here."""
    log_ratio = tensor([[15, -15]])
    assert_close(kl_estimate(log_ratio, "k1"), [[15, -15]])
    rewards = token_rewards(log_ratio, tensor([0]), valid([[1, 1]]), kl_coef=0.1)
    assert_close(rewards, [[-1.5, 1.5]])
    assert float(kl_estimate(log_ratio, "k3")[0, 1]) == pytest.approx(math.exp(15) - 16)


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "loss", "gradient"),
    [
        (1, -0.5, -0.606531, -0.606531),
        (1, 0.1, -1.105171, -1.105171),
        (1, 0.5, -1.2, 0),
        (-1, -0.5, 0.8, 0),
        (-1, 0.1, 1.105171, 1.105171),
        (-1, 0.5, 1.648721, 1.648721),
        (1, 0.0, -1, -1),
        (-1, 0.0, 1, 1),
        (2.5, 0.0, -2.5, -2.5),
    ],
)
def test_the_clipped_loss_and_its_gradient(
    advantage: float, log_ratio: float, loss: float, gradient: float
) -> None:
    new, old = tensor([log_ratio - 1]).requires_grad_(), tensor([-1])
    found = policy_loss(new, old, tensor([advantage]), clip_low=0.2, clip_high=0.2)
    found.loss.sum().backward()
    assert_close(found.loss.detach(), [loss], tolerance=1e-6)
    assert_close(_gradient(new), [gradient], tolerance=1e-6)
    assert_close(found.ratio, [math.exp(log_ratio)])
    assert found.clipped_high.tolist() == [gradient == 0 and log_ratio > 0]
    assert found.clipped_low.tolist() == [gradient == 0 and log_ratio < 0]


def test_the_bounds_of_the_ratio_may_differ() -> None:
    new = tensor([math.log(1.25), math.log(0.75)])
    advantages, old = tensor([1, -1]), torch.zeros(2).double()
    found = policy_loss(new, old, advantages, clip_low=0.1, clip_high=0.3)
    assert_close(found.loss, [-1.25, 0.9])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [(2.9, -1, 2.9, 2.9), (3.1, -1, 3, 0), (3.1, -2, 6, 0), (3.1, 1, -1.2, 0)],
)
def test_the_second_bound_is_for_negative_advantages_only(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    new, old = tensor([math.log(ratio)]).requires_grad_(), tensor([0])
    bounds = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    found = policy_loss(new, old, tensor([advantage]), **bounds)
    found.loss.sum().backward()
    assert_close(found.loss.detach(), [loss])
    assert_close(_gradient(new), [gradient])


def test_a_ratio_too_large_for_a_number_stays_one() -> None:
    new = torch.tensor([1e4, -1e4], requires_grad=True)
    found = policy_loss(new, torch.zeros(2), -torch.ones(2), clip_low=0.2, clip_high=0.2)
    found.loss.sum().backward()
    assert found.loss.isfinite().all()
    assert _gradient(new).isfinite().all()


@pytest.mark.parametrize(
    ("value", "target", "loss", "gradient"),
    [(0.5, 1, 0.32, 0), (0.1, 1, 0.405, -0.9), (0.5, 0.1, 0.08, 0.4), (-0.5, 1, 1.125, -1.5)],
)
def test_the_clipped_value_loss_and_its_gradient(
    value: float, target: float, loss: float, gradient: float
) -> None:
    """B46: a value that has moved by the bound towards its target is not learnt from any more."""
    new = tensor([value]).requires_grad_()
    found = value_loss(new, tensor([0]), tensor([target]), clip=0.2)
    found.loss.sum().backward()
    assert_close(found.loss.detach(), [loss])
    assert_close(_gradient(new), [gradient])
    assert found.clipped.tolist() == [gradient == 0]


def test_a_value_that_was_not_clamped_does_not_count_as_clipped() -> None:
    """Not though old + (new - old) is another number than new in three of four cases."""
    drawn = torch.Generator().manual_seed(2)
    old, new, returns = (torch.randn(10_000, generator=drawn) for _ in range(3))
    found = value_loss(0.01 * new, 0.3 * old, returns, clip=10.0)
    assert not bool(found.clipped.any())


def test_without_a_bound_the_critic_reaches_large_returns() -> None:
    """B46: with returns of 10 a bound of 0.2 stops the critic at 0.2; None does not."""
    reached = {}
    for clip in (0.2, None):
        new, old, returns = tensor([0]).requires_grad_(), tensor([0]), tensor([10])
        for _ in range(200):
            (gradient,) = torch.autograd.grad(
                value_loss(new, old, returns, clip=clip).loss.sum(), new
            )
            new = (new - 0.1 * gradient).detach().requires_grad_()
        reached[clip] = float(new.detach())
    assert reached[0.2] == pytest.approx(1.0)  # one step of 0.1 x 10, then nothing
    assert reached[None] == pytest.approx(10, abs=1e-6)


@pytest.mark.parametrize(("aggregation", "loss"), [("token", 1.8), ("seq", 3.0), ("seq_sum", 4.5)])
def test_weights_make_the_mean_that_was_asked_for(aggregation, loss: float) -> None:
    """B19: a mean over five tokens is 1.8; the mean of the rows' means, 3.0, is another one."""
    mask = valid([[1, 1, 1, 1], [1, 0, 0, 0]])
    weights = token_weights(mask, aggregation=aggregation)
    assert_close(masked_sum(weights * tensor([[1, 1, 1, 1], [5, 9, 9, 9]]), mask), loss)


def test_explained_variance_is_1_for_the_returns_and_0_for_their_mean() -> None:
    returns, mask = tensor([[1, 2, 3, 99]]), valid([[1, 1, 1, 0]])
    for values, expected in [([1, 2, 3], 1), ([2, 2, 2], 0), ([0, 0, 0], 0), ([3, 2, 1], -3)]:
        found = explained_variance(tensor([[*values, -7]]), returns, mask)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.9, 1 / 3, -0.1])
def test_returns_that_do_not_vary_are_explained_by_nothing(constant: float) -> None:
    """In single precision the variance of equal numbers is not 0, and a quotient by it absurd."""
    values = torch.randn(1, 641, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(values, dtype=torch.bool)
    assert explained_variance(values, torch.full_like(values, constant), mask) == 0.0
    from_scan = (constant - values) + values
    assert explained_variance(values, from_scan, mask) == 0.0


def _gradient(of: Tensor) -> Tensor:
    assert of.grad is not None
    return of.grad
