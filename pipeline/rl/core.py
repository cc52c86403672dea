"""The mathematics of PPO on tensors: rewards, advantages, losses, the KL controller.

Not the trainer: nothing here knows a model, a tokenizer or a process. B rows, T completion tokens;
masks are bool, True on the tokens that were sampled (the stop token included). What is masked is
taken out with `torch.where` and never multiplied by 0, which would let NaN through. Sources:
Schulman et al. 2017 (PPO), Schulman et al. 2016 (GAE), Ziegler et al. 2019 (KL in the reward,
adaptive coefficient), Schulman 2020, "Approximating KL divergence" (k1, k2, k3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
Aggregation = Literal["token", "seq", "seq_sum"]

_MAX_LOG_RATIO = 20.0  # exp(20) still is a number in fp32; the clipped loss is flat long before
_SMALLEST_SPREAD = 1e-5  # of returns, in means: below are fp32's rounding errors


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over valid entries, ()."""
    return torch.where(mask, x, 0).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over valid entries, (); 0 where there are none."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def masked_moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over valid entries, () each."""
    x = torch.where(mask, x, 0)  # first: a masked NaN would reach all gradients through the square
    mean = masked_mean(x, mask)
    return mean, masked_mean((x - mean) ** 2, mask)


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, epsilon: float = 1e-8) -> Tensor:
    """Scale valid entries to variance 1, and to mean 0 unless told otherwise; 0 elsewhere.

    With one valid entry or none there is no scale: all zeros.
    """
    if int(mask.sum()) <= 1:
        return torch.zeros_like(x)
    x = torch.where(mask, x, 0)
    mean, variance = masked_moments(x, mask)
    scaled = (x - mean) * torch.rsqrt(variance + epsilon)
    return torch.where(mask, scaled if shift_mean else scaled + mean, 0)


def kl_estimate(log_ratio: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Estimate KL(pi, reference) at sampled tokens; same shape.

    log_ratio: log pi - log reference. k1 is unbiased and may be negative; k3 is unbiased and is
    not; k2 is biased, but its gradient is that of the KL, so it is the one to use in a loss.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    return torch.expm1(-log_ratio) + log_ratio  # exp(x) - 1 near 0 would lose its digits


def token_rewards(kl: Tensor, scores: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """Return each token's reward, (B, T): -kl_coef kl, and the score at the last valid token.

    kl: (B, T). scores: (B,). The last token is the stop token, or the last one before the limit.
    """
    rewards = torch.where(mask, -kl_coef * kl, 0)
    if not mask.shape[-1]:  # all responses are empty
        return rewards
    # Not at the count of valid tokens: there may be masked ones in the middle (a tool's).
    positions = torch.arange(mask.shape[-1], device=mask.device)
    last = torch.where(mask, positions, 0).amax(-1, keepdim=True)
    has_tokens = mask.any(-1, keepdim=True)
    earned = torch.where(has_tokens, scores.unsqueeze(-1).to(rewards.dtype), 0)
    return rewards.scatter_add(-1, last, earned)


def gae(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    discount: float,
    trace: float,
    bootstrap: Tensor | None = None,
) -> Tensor:
    """Generalised advantage estimate (Schulman et al. 2016, eq. 16), (B, T), 0 where masked.

    rewards, values: (B, T), a value before its token. bootstrap: (B,), the value after the last
    token of a row; without it 0, since responses end.
    """
    # Both (B,): the value of the next valid token, and the sum of discounted errors from there on.
    following = values.new_zeros(len(values)) if bootstrap is None else bootstrap.to(values)
    carried = values.new_zeros(len(values))
    advantages = torch.zeros_like(values)
    for t in reversed(range(values.shape[1])):
        is_valid = mask[:, t]
        delta = rewards[:, t] + discount * following - values[:, t]  # (B,), the TD error
        # A masked token in the middle (a tool's) hands on what comes after it.
        carried = torch.where(is_valid, delta + discount * trace * carried, carried)
        following = torch.where(is_valid, values[:, t], following)
        advantages[:, t] = torch.where(is_valid, carried, 0)
    return advantages


@dataclass(frozen=True)
class PolicyLoss:
    """The clipped loss of each token, the ratio, and where each bound was the one that counted."""

    loss: Tensor
    ratio: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def policy_loss(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """Return the clipped surrogate loss of each token (Schulman et al. 2017, eq. 7), any shape.

    new, old: log-probabilities. dual_clip: bound c > 1 on the loss of tokens of negative advantage,
    c |advantage| (Ye et al. 2020, eq. 5).
    """
    ratio = torch.exp((new - old).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    free = -advantages * ratio
    # The larger loss of the two: a bound may only take an incentive away, never give one.
    bounded = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = torch.maximum(free, bounded)
    counts = bounded > free
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return PolicyLoss(loss, ratio.detach(), counts & (ratio < 1), counts & (ratio > 1))


@dataclass(frozen=True)
class ValueLoss:
    """Half the squared error of each token, and where the clipped value was what counted."""

    loss: Tensor
    clipped: Tensor


def value_loss(new: Tensor, old: Tensor, returns: Tensor, *, clip: float | None) -> ValueLoss:
    """Return half the squared error of each value, the larger of free and clipped; any shape.

    clip: how far a value may move from the old one and still be learnt from (as in OpenAI's
    baselines); None for no bound. With returns much larger than it the critic hardly learns.
    """
    free = (new - returns) ** 2 / 2
    if clip is None:
        return ValueLoss(free, torch.zeros_like(free, dtype=torch.bool))
    moved = new - old
    bounded = (old + moved.clamp(-clip, clip) - returns) ** 2 / 2
    # Where nothing was clamped the two still differ: old + (new - old) is not new, by rounding.
    is_clipped = (bounded > free) & (moved.abs() > clip)
    return ValueLoss(torch.maximum(free, bounded), is_clipped)


def token_weights(mask: Tensor, *, aggregation: Aggregation) -> Tensor:
    """Return (B, T) weights that make a sum of the losses of one optimizer step, over all of it.

    token: the mean over tokens. seq: the mean over rows of each row's mean. seq_sum: the mean over
    rows of each row's sum (Liu et al. 2025, "Dr. GRPO"). Rows without tokens count for nothing.
    """
    lengths = mask.sum(-1, keepdim=True)
    rows = (lengths > 0).sum().clamp(min=1)
    if aggregation == "token":
        weight = 1.0 / lengths.sum().clamp(min=1).float()
        return torch.where(mask, weight, 0.0)
    if aggregation == "seq":
        return torch.where(mask, 1.0 / (lengths.clamp(min=1) * rows), 0.0)
    return torch.where(mask, 1.0 / rows.float(), 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return 1 - Var(returns - values) / Var(returns); 0 where returns do not vary."""
    mean, whole = masked_moments(returns, mask)
    _, left = masked_moments(returns - values, mask)
    # Equal returns differ by rounding: without a bound this would be -1e16.
    is_varied = float(whole) > _SMALLEST_SPREAD**2 * float(mean) ** 2
    return float(1 - left / whole) if is_varied else 0.0


class FixedKL:
    """A KL coefficient that stays as it is."""

    def __init__(self, coef: float) -> None:
        self.coef = coef

    def update(self, kl: float, episodes: int) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return {"coef": self.coef}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was written."""
        self.coef = float(state["coef"])


class AdaptiveKL(FixedKL):
    """A KL coefficient that is steered towards a target (Ziegler et al. 2019, section 2.2).

    target: nats per sequence. horizon: episodes in which an error of 20% or more changes the
    coefficient by 20%.
    """

    def __init__(self, coef: float, target: float, horizon: float) -> None:
        super().__init__(coef)
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, episodes: int) -> None:
        """Steer once per rollout. kl: nats per sequence, the rollout's mean. episodes: its rows."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coef *= 1 + error * episodes / self.horizon


def kl_controller(coef: float, target: float | None, horizon: float) -> FixedKL:
    """Return what decides the coefficient: fixed without a target, else steered towards it."""
    return FixedKL(coef) if target is None else AdaptiveKL(coef, target, horizon)
