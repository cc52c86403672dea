"""The KL to the reference: its estimates, what tokens are paid with it, and its coefficient.

Sources: Ziegler et al. 2019 (KL in the reward, adaptive coefficient); Schulman 2020, "Approximating
KL divergence" (k1, k2, k3); DeepSeek-V3.2 2025 (k3 times the ratio).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from pipeline.rl.core.ratios import ratio_of

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(log_ratio: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Estimate KL(pi, reference) at sampled tokens; same shape.

    log_ratio: x = log pi - log reference. k1 = x is unbiased and may be negative; k3 =
    exp(-x) - 1 + x is unbiased and is not; k2 = x^2 / 2 is biased.

    As a loss, each pulls on log pi by its own factor: k1 by 1, which is nothing but noise (its mean
    over samples is 0); k2 by x, in the mean the gradient of KL(pi, reference); k3 by 1 - exp(-x),
    in the mean that of KL(reference, pi). `corrected_kl` gives k3 the gradient of k2.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    return torch.expm1(-log_ratio) + log_ratio  # exp(x) - 1 near 0 would lose its digits


def corrected_kl(kl: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return kl times the ratio of new to old policy; same shape (DeepSeek-V3.2 2025, section 3.1).

    Estimates are of samples from the old policy; with the ratio, differentiable, the mean over them
    is the KL of the new one. So is the gradient: of k3 it is, where the ratio is 1, that of k2.
    TRL's `use_bias_correction_kl`.
    """
    return kl * ratio_of(new - old)


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
