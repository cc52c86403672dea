"""The losses of policy and critic, token by token; a sequence's with its slope.

Sources: Schulman et al. 2017 (PPO), and the paper of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.rl.core.ratios import ratio_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """The loss of each token, the ratio, and where each bound was the one that counted."""

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

    new, old: log-probabilities. clip_low, clip_high: apart as in DAPO (Yu et al. 2025, eq. 10).
    dual_clip: bound c > 1 on the loss of tokens of negative advantage, c |advantage| (Ye et al.
    2020, eq. 5). TRL's `delta` (INTELLECT-2 2025: the free ratio is cut to at most delta before the
    two are compared) is the same bound for delta >= 1 + clip_high. A smaller delta would no longer
    be one: it clips positive advantages, at delta, and leaves negative ones at 1 + clip_high.
    """
    ratio = ratio_of(new - old)
    free = -advantages * ratio
    # The larger loss of the two: a bound may only take an incentive away, never give one.
    bounded = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = torch.maximum(free, bounded)
    counts = bounded > free
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return PolicyLoss(loss, ratio.detach(), counts & (ratio < 1), counts & (ratio > 1))


def cispo_loss(new: Tensor, old: Tensor, advantages: Tensor, *, clip_high: float) -> PolicyLoss:
    """Return -min(ratio, clip_high) advantage log pi of each token (CISPO), any shape.

    MiniMax-M1 2025, eq. 4 and 5: the ratio is a weight that carries no gradient, so that no token
    loses its own. clip_high: the highest weight itself (ScaleRL, Khatri et al. 2025, and TRL's
    `epsilon_high` for this loss, 5 recommended). The paper's bounds are 1 - epsilon_low and 1 +
    epsilon_high, of which it leaves the lower away in practice.
    """
    ratio = ratio_of(new - old).detach()
    loss = -ratio.clamp(max=clip_high) * advantages * new
    return PolicyLoss(loss, ratio, torch.zeros_like(ratio, dtype=torch.bool), ratio > clip_high)


def sapo_loss(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    *,
    temperature_pos: float,
    temperature_neg: float,
) -> PolicyLoss:
    """Return -4 / tau sigmoid(tau (ratio - 1)) advantage of each token (SAPO), any shape.

    Gao et al. 2025 (arXiv 2511.20347): where the ratio is 1 the gradient is that of the surrogate,
    and it fades out instead of being clipped. temperature_pos, temperature_neg: tau, by the sign of
    the advantage.
    """
    ratio = ratio_of(new - old)
    temperature = _by_sign(advantages > 0, temperature_pos, temperature_neg, like=ratio)
    loss = -torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantages
    nowhere = torch.zeros_like(ratio, dtype=torch.bool)
    return PolicyLoss(loss, ratio.detach(), nowhere, nowhere)


@dataclass(frozen=True)
class SequenceLoss:
    """The loss of each row, (B,), its slope by the row's log-ratio, and where it was clipped."""

    loss: Tensor
    slope: Tensor
    ratio: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def sequence_loss(
    log_ratios: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> SequenceLoss:
    """Return the clipped loss of whole responses and d loss / d log-ratio, (B,) each, no gradients.

    log_ratios: of a row, by a pass without gradients: the sum over its tokens of new - old (RLOO,
    Ahmadian et al. 2024), or its mean (GSPO, Zheng et al. 2025, eq. 5 to 7). advantages: (B,).

    A row's tokens may cross chunks, so its loss is sent back linearised, which is exact: the sum of
    slope[row] a_t new_t over its tokens, where a_t is the derivative of log_ratios[row] by new_t: 1
    for a sum, 1 / tokens for a mean. A slope is 0 where the clipped side counts.
    """
    with torch.enable_grad():
        moved = log_ratios.detach().clone().requires_grad_()
        found = policy_loss(
            moved,
            torch.zeros_like(moved),
            advantages,
            clip_low=clip_low,
            clip_high=clip_high,
            dual_clip=dual_clip,
        )
        (slope,) = torch.autograd.grad(found.loss.sum(), moved)
    return SequenceLoss(
        found.loss.detach(), slope, found.ratio, found.clipped_low, found.clipped_high
    )


def vespo_weights(
    log_ratios: Tensor,
    advantages: Tensor,
    *,
    k_pos: float,
    lambda_pos: float,
    k_neg: float,
    lambda_neg: float,
) -> Tensor:
    """Return what VESPO multiplies the advantage of each row's tokens by, (B,), no gradients.

    w^k exp(lambda (1 - w)) with w the ratio of the whole response (Shen et al. 2026, arXiv
    2602.10693); k and lambda by the sign of the advantage. The loss of a token is -weight advantage
    log pi. log_ratios: (B,), the sum over a row's tokens of new - old, and of the sampler's
    log-ratios where it is corrected for.
    """
    logs = log_ratios.detach().clamp(math.log(1e-8), 20.0)  # TRL's bounds
    is_good = advantages >= 0
    k = _by_sign(is_good, k_pos, k_neg, like=logs)
    decay = _by_sign(is_good, lambda_pos, lambda_neg, like=logs).clamp(min=1e-4)
    return torch.exp(decay + k * logs - decay * logs.exp())


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


def _by_sign(is_good: Tensor, good: float, bad: float, *, like: Tensor) -> Tensor:
    return torch.where(is_good, like.new_tensor(good), like.new_tensor(bad))
