"""What is masked, how far a batch is padded and how its rows are split must change nothing.

The values themselves are checked in test_core.py, at single points.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from pipeline.rl.core import (
    Aggregation,
    explained_variance,
    gae,
    kl_estimate,
    masked_mean,
    masked_moments,
    masked_sum,
    policy_loss,
    token_rewards,
    token_weights,
    value_loss,
    whiten,
)

POISONS = [math.nan, math.inf, -math.inf]
LENGTHS = [5, 1, 7, 3, 2, 7]
AGGREGATIONS: list[Aggregation] = ["token", "seq", "seq_sum"]


@dataclass(frozen=True)
class Batch:
    """What one optimizer step is made of, (B, T); scores (B,)."""

    old: Tensor
    reference: Tensor
    new: Tensor
    values: Tensor
    new_values: Tensor
    scores: Tensor
    mask: Tensor

    def of_each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch with a changed copy of everything."""
        return Batch(**{each.name: change(getattr(self, each.name)) for each in fields(self)})

    def with_tokens(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch with a changed copy of what has a number for each token."""
        names = ("old", "reference", "new", "values", "new_values")
        return replace(self, **{name: change(getattr(self, name)) for name in names})


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(11)
    rows, longest = len(LENGTHS), max(LENGTHS)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(rows, longest, generator=generator, dtype=torch.float64)

    old = -noise(1.0).abs()
    values = noise(0.3)
    return Batch(
        old=old,
        reference=old + noise(0.2),
        new=old + noise(0.2),
        values=values,
        new_values=values + noise(0.3),
        scores=torch.randn(rows, generator=generator, dtype=torch.float64),
        mask=torch.arange(longest)[None] < torch.tensor(LENGTHS)[:, None],
    )


def one_step(batch: Batch, aggregation: Aggregation = "token") -> dict[str, Tensor]:
    """Return all that PPO computes of a batch, from the scores to the gradients and metrics.

    Elementwise functions are given the valid tokens alone, as the model's head is.
    """
    mask = batch.mask
    new, new_values = (x.detach().requires_grad_() for x in (batch.new, batch.new_values))
    kl = kl_estimate(batch.old - batch.reference, "k1")
    rewards = token_rewards(kl, batch.scores, mask, kl_coef=0.1)
    advantages = gae(rewards, batch.values, mask, discount=0.99, trace=0.9)
    returns = advantages + torch.where(mask, batch.values, 0)
    whitened = whiten(advantages, mask)
    bounds = {"clip_low": 0.1, "clip_high": 0.1, "dual_clip": 3.0}
    policy = policy_loss(new[mask], batch.old[mask], whitened[mask], **bounds)
    value = value_loss(new_values[mask], batch.values[mask], returns[mask], clip=0.2)
    weights = token_weights(mask, aggregation=aggregation)[mask]
    losses = (weights * policy.loss).sum(), (weights * value.loss).sum()
    (losses[0] + losses[1]).backward()
    assert new.grad is not None
    assert new_values.grad is not None
    return {
        "rewards": rewards,
        "advantages": advantages,
        "returns": returns,
        "whitened": whitened,
        "gradient of policy": new.grad,
        "gradient of critic": new_values.grad,
        "loss of policy": losses[0].detach(),
        "loss of critic": losses[1].detach(),
        "kl of sequences": masked_sum(kl, mask) / len(mask),
        "entropy": masked_mean(-batch.old, mask),
        "approximate kl": masked_mean(kl_estimate(batch.old - batch.new, "k3"), mask),
        "clipped": policy.clipped_low.double().mean() + policy.clipped_high.double().mean(),
        "clipped values": value.clipped.double().mean(),
        "variance of returns": masked_moments(returns, mask)[1],
        "explained": torch.tensor(explained_variance(batch.values, returns, mask)),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=1e-12, rtol=0, msg=lambda said, of=name: f"{of}: {said}"
        )


def poisoned(x: Tensor, mask: Tensor, poison: float) -> Tensor:
    return torch.where(mask, x.detach(), poison).requires_grad_()


def test_the_step_under_test_clips_some_and_not_all(batch: Batch) -> None:
    """So that invariance is not that of zeros."""
    step = one_step(batch)
    assert 0 < step["clipped"] < 1
    assert 0 < step["clipped values"] < 1
    assert all(bool((value != 0).any()) for value in step.values())


@pytest.mark.parametrize("poison", POISONS)
def test_nothing_that_is_masked_reaches_a_step(batch: Batch, poison: float) -> None:
    """B07: NaN and infinities in every masked entry change no output, gradient or metric."""
    bad = batch.with_tokens(lambda x: torch.where(batch.mask, x, poison))
    assert_same(one_step(bad), one_step(batch))


MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked_sum": masked_sum,
    "masked_mean": masked_mean,
    "mean": lambda x, mask: masked_moments(x, mask)[0],
    "variance": lambda x, mask: masked_moments(x, mask)[1],
    "whiten": whiten,
    "whiten, unshifted": lambda x, mask: whiten(x, mask, shift_mean=False),
    "token_rewards": lambda x, mask: token_rewards(x, torch.ones(len(x)), mask, kl_coef=0.1),
    "gae of rewards": lambda x, mask: gae(x, x.detach() / 2, mask, discount=0.9, trace=0.8),
    "gae of values": lambda x, mask: gae(x.detach() / 2, x, mask, discount=0.9, trace=0.8),
    "k1": lambda x, mask: kl_estimate(x[mask], "k1"),
    "k2": lambda x, mask: kl_estimate(x[mask], "k2"),
    "k3": lambda x, mask: kl_estimate(x[mask], "k3"),
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("function", MASKED.values(), ids=MASKED)
def test_masked_entries_reach_neither_result_nor_gradient(
    batch: Batch, function: Callable[[Tensor, Tensor], Tensor], poison: float
) -> None:
    """B07: `x * mask` would turn a masked NaN into one everywhere, also on the way back."""
    clean, bad = batch.values.detach().requires_grad_(), poisoned(batch.values, batch.mask, poison)
    found, expected = function(bad, batch.mask), function(clean, batch.mask)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    for x, result in ((bad, found), (clean, expected)):
        (result * torch.linspace(1, 2, result.numel()).reshape(result.shape)).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert (x.grad[~batch.mask] == 0).all()
    torch.testing.assert_close(bad.grad, clean.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("poison", POISONS)
def test_a_row_without_tokens_earns_nothing(poison: float) -> None:
    """B07: neither its score nor the value after it, whatever they are."""
    mask = torch.tensor([[True, True], [False, False]])
    zeros = torch.zeros(2, 2)
    after = torch.tensor([0.5, poison])
    rewards = token_rewards(zeros, torch.tensor([1.0, poison]), mask, kl_coef=0.1)
    assert rewards.tolist() == [[0, 1], [0, 0]]
    advantages = gae(rewards, zeros, mask, discount=1.0, trace=1.0, bootstrap=after)
    assert advantages.tolist() == [[1.5, 1.5], [0, 0]]


@pytest.mark.parametrize("poison", [*POISONS, 0.0, 1.0])
def test_padding_a_batch_further_changes_nothing(batch: Batch, poison: float) -> None:
    """B13, B14, B15: five more columns of pads, in losses, gradients, moments and metrics."""

    def longer(x: Tensor) -> Tensor:
        if x.ndim == 1:
            return x
        pads = torch.full((len(x), 5), poison, dtype=torch.float64)
        return torch.cat([x, torch.zeros_like(pads, dtype=torch.bool) if x.dtype == torch.bool
                          else pads], dim=1)  # fmt: skip

    found, longest = one_step(batch.of_each(longer)), max(LENGTHS)
    for name, value in found.items():
        if value.ndim:
            assert (value[:, longest:] == 0).all(), name
    assert_same(
        {name: x[:, :longest] if x.ndim else x for name, x in found.items()}, one_step(batch)
    )


@pytest.mark.parametrize("num_pads", [0, 3])
def test_the_entropy_of_a_uniform_policy_is_the_logarithm_of_the_vocabulary(num_pads: int) -> None:
    """B16: pads marked with a log-probability of 1 do not count as an entropy of -1 each."""
    real, pads = torch.full((2, 4), -math.log(32)), torch.ones(2, num_pads)
    mask = torch.arange(4 + num_pads)[None].expand(2, -1) < 4
    logprobs = torch.cat([real, pads], dim=1)
    assert float(masked_mean(-logprobs, mask)) == pytest.approx(math.log(32))
    assert float(masked_sum(-logprobs, mask)) / 2 == pytest.approx(4 * math.log(32))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_order_of_rows_does_not_matter(batch: Batch, aggregation: Aggregation) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found = one_step(batch.of_each(lambda x: x[order]), aggregation)
    expected = one_step(batch, aggregation)
    assert_same(found, {name: x[order] if x.ndim else x for name, x in expected.items()})


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_micro_batches_add_up_to_the_whole(
    batch: Batch, aggregation: Aggregation, size: int
) -> None:
    """B19, B20: loss and gradient of a step do not depend on the size of its micro-batches."""
    whole = one_step(batch, aggregation)
    new, loss = batch.new.detach().requires_grad_(), 0.0
    weights = token_weights(batch.mask, aggregation=aggregation)
    for start in range(0, len(LENGTHS), size):
        rows = slice(start, start + size)
        mask = batch.mask[rows]
        found = policy_loss(
            new[rows][mask],
            batch.old[rows][mask],
            whole["whitened"][rows][mask],
            clip_low=0.1,
            clip_high=0.1,
            dual_clip=3.0,
        )
        part = (weights[rows][mask] * found.loss).sum()
        part.backward()
        loss += float(part.detach())
    assert loss == pytest.approx(float(whole["loss of policy"]), abs=1e-12)
    torch.testing.assert_close(new.grad, whole["gradient of policy"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_rows_without_tokens_have_no_weight(aggregation: Aggregation) -> None:
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    with_empty = token_weights(mask, aggregation=aggregation)
    torch.testing.assert_close(
        with_empty[[0, 2]], token_weights(mask[[0, 2]], aggregation=aggregation)
    )
    assert (with_empty[~mask] == 0).all()
    nothing = token_weights(torch.zeros(2, 2, dtype=torch.bool), aggregation=aggregation)
    assert (nothing == 0).all()


def from_definition(
    rewards: list[float], values: list[float], discount: float, trace: float, after: float
) -> list[float]:
    """Equation 16 of Schulman et al. 2016 word by word: a sum over what follows, for each token."""
    following = [*values[1:], after]
    errors = [
        r + discount * later - now for r, now, later in zip(rewards, values, following, strict=True)
    ]
    return [
        sum((discount * trace) ** k * error for k, error in enumerate(errors[t:]))
        for t in range(len(errors))
    ]


@pytest.mark.parametrize("has_bootstrap", [False, True])
def test_the_scan_is_the_definition(batch: Batch, has_bootstrap: bool) -> None:
    """Also with masked tokens in the middle: the row is then the one without them."""
    generator = torch.Generator().manual_seed(5)
    holes = torch.rand(batch.mask.shape, generator=generator) < 0.3
    after = batch.scores if has_bootstrap else torch.zeros_like(batch.scores)
    for mask in (batch.mask, batch.mask & ~holes):
        found = gae(
            batch.new,
            batch.values,
            mask,
            discount=0.9,
            trace=0.8,
            bootstrap=after if has_bootstrap else None,
        )
        assert (found[~mask] == 0).all()
        for row, valid in enumerate(mask):
            rewards, values = batch.new[row][valid].tolist(), batch.values[row][valid].tolist()
            expected = from_definition(rewards, values, 0.9, 0.8, float(after[row]))
            assert found[row][valid].tolist() == pytest.approx(expected, abs=1e-12)


def test_without_discount_and_trace_a_return_is_the_sum_of_what_follows(batch: Batch) -> None:
    rewards = token_rewards(batch.new - batch.old, batch.scores, batch.mask, kl_coef=0.1)
    advantages = gae(rewards, batch.values, batch.mask, discount=1.0, trace=1.0)
    returns = torch.where(batch.mask, advantages + batch.values, 0)
    sums = torch.where(batch.mask, rewards.flip(1).cumsum(1).flip(1), 0)
    torch.testing.assert_close(returns, sums, atol=1e-12, rtol=0)


def test_whitened_numbers_have_mean_0_and_variance_1(batch: Batch) -> None:
    """B13: over the valid ones; a mean that is kept stays."""
    mean, variance = masked_moments(whiten(batch.values, batch.mask), batch.mask)
    assert (float(mean), float(variance)) == pytest.approx((0, 1), abs=1e-6)
    kept = masked_moments(whiten(batch.values, batch.mask, shift_mean=False), batch.mask)
    expected = float(masked_mean(batch.values, batch.mask))
    assert (float(kept[0]), float(kept[1])) == pytest.approx((expected, 1), abs=1e-6)
