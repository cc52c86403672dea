"""Ratios of two policies' probabilities, and the weights that correct for another sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

ImportanceMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]

_MAX_LOG_RATIO = 20.0  # exp(20) still is a number in fp32; the clipped loss is flat long before


def ratio_of(log_ratio: Tensor) -> Tensor:
    """Return exp(log_ratio), flat where it would be no number any more; same shape."""
    return torch.exp(log_ratio.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO))


def importance_weights(
    old: Tensor,
    sampled: Tensor,
    mask: Tensor,
    *,
    mode: ImportanceMode,
    low: float | None,
    high: float | None,
) -> Tensor:
    """Return what corrects for tokens that another engine sampled, (B, T), 0 where masked.

    The ratio of the policy that trains, before its first step, to what the sampler says it sampled
    with (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training":
    truncated; Liu et al. 2025, "When speed kills stability": masked). TRL's
    `vllm_importance_sampling_*`. Losses are multiples of advantages: multiply those by it.

    old, sampled: log-probabilities, (B, T); NaN where the sampler had none: such a token's ratio is
    1. mode: one ratio for each token, or their product for all tokens of a row; outside of low and
    high (None: no bound) a ratio is the bound, or 0.
    """
    log_ratio = torch.where(mask & ~sampled.isnan(), old - sampled, 0)
    if mode.startswith("sequence"):
        log_ratio = log_ratio.sum(-1, keepdim=True).expand_as(log_ratio)
    weights = ratio_of(log_ratio)
    bounded = weights.clamp(low, high) if (low, high) != (None, None) else weights
    if mode.endswith("mask"):
        bounded = torch.where(bounded == weights, weights, 0)
    return torch.where(mask, bounded, 0)
