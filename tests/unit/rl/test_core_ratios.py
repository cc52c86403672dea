"""Losses of other ratios than PPO's, another sampler's weights, and how TRL counts."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.rl.core import (
    Aggregation,
    ImportanceMode,
    cispo_loss,
    corrected_kl,
    importance_weights,
    kl_estimate,
    policy_loss,
    sapo_loss,
    sequence_loss,
    token_weights,
    vespo_weights,
)

MODES: list[ImportanceMode] = [
    "token_truncate",
    "token_mask",
    "sequence_truncate",
    "sequence_mask",
]


def tensor(numbers: list) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def valid(numbers: list) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)


def assert_close(found: Tensor, expected: list | float, tolerance: float = 1e-9) -> None:
    numbers = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), numbers, atol=tolerance, rtol=0)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), of)
    return found


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight"), [(0.1, 2, 0.1), (4.9, -1, 4.9), (5.1, 2, 5), (9, -1, 5)]
)
def test_cispo_weighs_every_token_and_clips_the_weight_alone(
    ratio: float, advantage: float, weight: float
) -> None:
    new = tensor([math.log(ratio) - 3]).requires_grad_()
    found = cispo_loss(new, tensor([-3]), tensor([advantage]), clip_high=5.0)
    assert_close(found.loss.detach(), [-weight * advantage * (math.log(ratio) - 3)])
    assert_close(gradient(found.loss, new), [-weight * advantage])
    assert_close(found.ratio, [ratio])
    assert found.clipped_high.tolist() == [ratio > 5]
    assert found.clipped_low.tolist() == [False]


@pytest.mark.parametrize(("advantage", "tau"), [(1.5, 1.0), (-0.5, 1.05)])
def test_sapo_is_the_surrogate_where_the_ratio_is_1_and_fades_out(
    advantage: float, tau: float
) -> None:
    """Its gradient is 4 s (1 - s) ratio advantage, s = sigmoid(tau (ratio - 1))."""
    new = tensor([0, math.log(2), 4]).requires_grad_()
    old, advantages = torch.zeros(3).double(), tensor([advantage] * 3)
    found = sapo_loss(new, old, advantages, temperature_pos=1.0, temperature_neg=1.05)
    s = 1 / (1 + math.exp(-tau))
    assert_close(found.loss.detach()[:2], [-2 / tau * advantage, -4 / tau * s * advantage])
    slopes = gradient(found.loss, new)
    assert_close(slopes[:2], [-advantage, -4 * s * (1 - s) * 2 * advantage])
    assert abs(float(slopes[2])) < 1e-9


@pytest.mark.parametrize("delta", [1.28, 1.5, 4.0])
def test_trls_delta_is_the_dual_clip_from_the_upper_bound_on(delta: float) -> None:
    new = torch.linspace(-3, 3, 601, dtype=torch.float64).repeat(2).requires_grad_()
    advantages = tensor([1.5, -0.5]).repeat_interleave(601)
    ratio = new.exp()
    theirs = -torch.min(ratio.clamp(max=delta) * advantages, ratio.clamp(0.8, 1.28) * advantages)
    ours = policy_loss(
        new, torch.zeros_like(new), advantages, clip_low=0.2, clip_high=0.28, dual_clip=delta
    )
    assert_close(ours.loss.detach(), theirs.tolist())
    assert_close(gradient(ours.loss, new), gradient(theirs, new).tolist())


def test_a_smaller_delta_clips_positive_advantages_instead() -> None:
    ratio, delta = tensor([1.05, 1.15, 1.5, 1.15, 1.5]), 1.1
    advantages = tensor([1, 1, 1, -1, -1])
    theirs = -torch.min(ratio.clamp(max=delta) * advantages, ratio.clamp(0.8, 1.28) * advantages)
    assert_close(theirs, [-1.05, -1.1, -1.1, 1.15, 1.28])


MASK = valid([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("is_mean", [False, True])
@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_a_sequences_linearised_loss_has_the_gradient_of_the_whole_formula(
    is_mean: bool, dual_clip: float | None
) -> None:
    """Rows clipped above, below, free of both signs, and beyond the second bound."""
    target = tensor([0.5, -0.7, 0.1, -0.1, 0.5, 2.0])  # log-ratios of rows
    advantages = tensor([1.0, -2.0, 1.5, -0.5, -1.0, -1.0])
    mask = MASK[[0, 1, 2, 3, 0, 2]]
    counts = mask.sum(-1)
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(6, 5, generator=generator, dtype=torch.float64) * mask
    per_token = target if is_mean else target / counts
    old = -torch.rand(6, 5, generator=generator, dtype=torch.float64)
    moved = old + (noise - noise.sum(-1, keepdim=True) / counts[:, None]) + per_token[:, None]
    new = torch.where(mask, moved, 77.0).requires_grad_()
    log_ratios = torch.where(mask, new - old, 0).sum(-1) / (counts if is_mean else 1)
    assert_close(log_ratios.detach(), target.tolist())

    ratio = log_ratios.exp()
    whole = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.3))
    if dual_clip is not None:
        whole = torch.where(advantages < 0, torch.minimum(whole, -dual_clip * advantages), whole)
    expected = gradient(whole, new)
    with torch.no_grad():
        found = sequence_loss(
            log_ratios, advantages, clip_low=0.2, clip_high=0.3, dual_clip=dual_clip
        )
    assert_close(found.loss, whole.detach().tolist())
    assert not found.slope.requires_grad
    a = 1 / counts[:, None].double() if is_mean else torch.ones(6, 1)
    linear = torch.where(mask, found.slope[:, None] * a * new, 0)
    assert_close(gradient(linear, new), expected.tolist())
    flat = [True, True, False, False, False, dual_clip is not None]
    assert (found.slope == 0).tolist() == flat
    assert found.clipped_high.tolist() == [True, False, False, False, False, False]
    assert found.clipped_low.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("x", [-1.5, 0.3, 2.0])
def test_corrected_k3_has_the_gradient_of_k2_and_k3_has_not(x: float) -> None:
    """Where new is old; x = log pi - log reference. By hand: x, and 1 - exp(-x) without."""
    new = tensor([x - 2]).requires_grad_()
    old, reference = tensor([x - 2]), tensor([-2])
    kl = {name: kl_estimate(new - reference, name) for name in ("k1", "k2", "k3")}
    corrected = {name: corrected_kl(value, new, old) for name, value in kl.items()}
    assert_close(gradient(kl["k2"], new), [x])
    assert_close(gradient(kl_estimate(new - reference, "k3"), new), [1 - math.exp(-x)])
    assert_close(gradient(corrected["k3"], new), [x])
    assert_close(gradient(corrected["k1"], new), [1 + x])
    assert_close(corrected["k3"].detach(), kl["k3"].tolist())


def test_corrected_kl_is_that_of_the_new_policy_over_samples_of_the_old() -> None:
    """In value and in gradient, with the arms of a bandit as samples: exact sums, no noise."""
    old, reference = tensor([0.7, 0.3]).log(), tensor([0.5, 0.5]).log()
    logits = tensor([0.2, 0.9]).requires_grad_()
    new = logits.log_softmax(0)
    true = (new.exp() * (new - reference)).sum()
    found = (old.exp() * corrected_kl(kl_estimate(new - reference, "k3"), new, old)).sum()
    assert_close(found.detach(), float(true.detach()))
    (expected,) = torch.autograd.grad(true, logits, retain_graph=True)
    assert_close(torch.autograd.grad(found, logits)[0], expected.tolist())


LOG = math.log
DIFFERENCES = [[LOG(3), LOG(0.2), LOG(1.5), 0.0], [LOG(0.5), LOG(0.6), 9.0, 9.0]]


@pytest.mark.parametrize(
    ("mode", "weights"),
    [
        ("token_truncate", [[2, 0.4, 1.5, 1], [0.5, 0.6, 0, 0]]),
        ("token_mask", [[0, 0, 1.5, 1], [0.5, 0.6, 0, 0]]),
        ("sequence_truncate", [[0.9] * 4, [0.4, 0.4, 0, 0]]),
        ("sequence_mask", [[0.9] * 4, [0] * 4]),
    ],
)
def test_importance_weights_of_six_tokens(mode: ImportanceMode, weights: list) -> None:
    """Products of the rows: 3 x 0.2 x 1.5 = 0.9 and 0.5 x 0.6 = 0.3."""
    mask = valid([[1, 1, 1, 1], [1, 1, 0, 0]])
    sampled = tensor([[-1, -2, -3, -4]] * 2)
    old = sampled + tensor(DIFFERENCES)
    found = importance_weights(old, sampled, mask, mode=mode, low=0.4, high=2.0)
    assert_close(found, weights)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bounds", [(None, 2.0), (0.5, None), (0.5, 2.0), (None, None)])
def test_importance_weights_are_those_of_a_loop(mode: ImportanceMode, bounds) -> None:
    """With NaN, which is 1, for tokens that the sampler does not know, and where masked."""
    low, high = (-math.inf if bounds[0] is None else bounds[0], bounds[1] or math.inf)
    generator = torch.Generator().manual_seed(8)
    old, sampled = (torch.randn(5, 6, generator=generator).double() * 0.6 for _ in range(2))
    mask = torch.rand(5, 6, generator=generator) < 0.8
    sampled[torch.rand(5, 6, generator=generator) < 0.2] = math.nan
    expected = torch.zeros(5, 6).double()
    for row, t in mask.nonzero().tolist():
        whole = range(6) if mode.startswith("sequence") else [t]
        apart = [float(old[row, i] - sampled[row, i]) for i in whole if mask[row, i]]
        weight = math.exp(sum(x for x in apart if not math.isnan(x)))
        cut = min(max(weight, low), high)
        expected[row, t] = weight if low <= weight <= high else cut * mode.endswith("truncate")
    poisoned = torch.where(mask, old, math.nan)
    found = importance_weights(poisoned, sampled, mask, mode=mode, low=bounds[0], high=bounds[1])
    assert_close(found, expected.tolist())


def test_losses_are_multiples_of_advantages() -> None:
    """So that importance weights may be multiplied into them."""
    generator = torch.Generator().manual_seed(9)
    new, old, advantages = (torch.randn(50, generator=generator) for _ in range(3))
    weights = torch.rand(50, generator=generator) * 2
    clips = {"clip_low": 0.2, "clip_high": 0.3, "dual_clip": 3.0}
    temperatures = {"temperature_pos": 1.0, "temperature_neg": 1.05}
    for loss in (
        lambda a: policy_loss(new, old, a, **clips).loss,
        lambda a: sequence_loss(new - old, a, **clips).slope,
        lambda a: cispo_loss(new, old, a, clip_high=1.5).loss,
        lambda a: sapo_loss(new, old, a, **temperatures).loss,
    ):
        torch.testing.assert_close(loss(advantages * weights), loss(advantages) * weights)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "weight"),
    [(0, 1, 1), (0, -1, 1), (LOG(2), 1, 4 * math.exp(-3)), (LOG(0.5), -2, math.e / 8)],
)
def test_vespo_weighs_a_row_by_its_ratio(log_ratio: float, advantage: float, weight: float) -> None:
    """w^2 exp(3 (1 - w)) and, of negative advantage, w^3 exp(2 (1 - w))."""
    numbers = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}
    found = vespo_weights(tensor([log_ratio]), tensor([advantage]), **numbers)
    assert_close(found, [weight])
    far = vespo_weights(tensor([90, -90]), tensor([1, 1]), **numbers)
    assert_close(far, [0, 0])


@pytest.mark.parametrize(
    ("aggregation", "as_here", "as_trl"),
    [("seq", 3.0, 2.0), ("seq_sum", 4.5, 3.0), ("constant", 0.45, 0.3), ("token", 1.8, 1.8)],
)
def test_a_row_without_tokens_counts_where_rows_are_told(
    aggregation: Aggregation, as_here: float, as_trl: float
) -> None:
    """As TRL counts rows whose completion was cut and masked: 3 rows, of which 2 have tokens."""
    mask = valid([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    losses = tensor([[1, 1, 1, 1], [9, 9, 9, 9], [5, 9, 9, 9]])
    for rows, loss in ((None, as_here), (3, as_trl)):
        weights = token_weights(mask, aggregation=aggregation, length=10, rows=rows)
        assert_close((weights * losses).sum(), loss, tolerance=1e-6)


def test_a_mean_over_tokens_may_be_over_those_of_the_rollout() -> None:
    mask = valid([[1, 1, 1, 1], [1, 0, 0, 0]])
    weights = token_weights(mask, aggregation="token", tokens=12.5)  # 25 in two steps
    assert_close(weights.sum(), 5 / 12.5, tolerance=1e-6)


def test_a_constant_length_must_be_told() -> None:
    with pytest.raises(ValueError, match="length"):
        token_weights(valid([[1]]), aggregation="constant")


@pytest.mark.parametrize("aggregation", ["token", "seq", "seq_sum", "constant"])
def test_without_any_token_all_weights_are_0(aggregation: Aggregation) -> None:
    weights = token_weights(valid([[0, 0], [0, 0]]), aggregation=aggregation, length=2)
    assert weights.tolist() == [[0, 0], [0, 0]]
