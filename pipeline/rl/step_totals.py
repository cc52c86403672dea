"""What a rollout's training steps add up to: sums over tokens, on all processes.

Sums and counts are kept, never means of means, and they go into checkpoints, so that a run that is
resumed in the middle of a rollout logs the same line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.rl.core import PolicyLoss, ValueLoss

_SUMS = (
    *("policy_loss", "value_loss", "tokens", "policy_tokens", "approx_kl", "low", "high", "ratio"),
    *("value_clipped", "divergence", "distilled_tokens"),
)
_ALIKE = ("steps", "policy_norm", "critic_norm")  # the same on every process
_MAXIMA = ("ratio_max", "ratio_first")


class StepTotals:
    """Totals of a rollout's steps: `whole` over all processes, and those of the step under way."""

    def __init__(self) -> None:
        self.whole = dict.fromkeys((*_SUMS, *_ALIKE, *_MAXIMA), 0.0)
        self._step = dict(self.whole)

    def add_policy(
        self, loss: Tensor, surrogate: PolicyLoss, log_ratio: Tensor, *, is_first: bool
    ) -> None:
        """Take in one part of a forward pass. log_ratio: new - old, (n,)."""
        if not len(log_ratio):
            return
        ratio = surrogate.ratio.detach()
        # KL(old, new) by k3, at the tokens that the old policy sampled.
        moved = (torch.expm1(log_ratio) - log_ratio).sum()
        self._add(
            policy_loss=loss,
            policy_tokens=len(log_ratio),
            approx_kl=moved,
            low=surrogate.clipped_low.sum(),
            high=surrogate.clipped_high.sum(),
            ratio=ratio.sum(),
        )
        self._raise("ratio_max", float(ratio.max()))
        if is_first:
            self._raise("ratio_first", float((ratio - 1).abs().max()))

    def add_value(self, loss: Tensor, errors: ValueLoss) -> None:
        """Take in one forward pass of the critic."""
        self._add(value_loss=loss, tokens=errors.loss.numel(), value_clipped=errors.clipped.sum())

    def add_divergence(self, loss: Tensor, values: Tensor) -> None:
        """Take in how far the policy is from its teacher at some tokens, (n,) nats."""
        self._add(policy_loss=loss, divergence=values.sum(), distilled_tokens=len(values))

    def add_step(self, policy_norm: float, critic_norm: float) -> None:
        """Take in an optimizer step: gradient norms before clipping, the same everywhere."""
        self._add(steps=1, policy_norm=policy_norm, critic_norm=critic_norm)

    def close_step(self) -> float:
        """Take the step under way into the whole; return how far it moved the policy (k3)."""
        everyone: list[Any] = [self._step]
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            everyone = [None] * distributed.get_world_size()
            distributed.all_gather_object(everyone, self._step)
        for name in (*_SUMS, *_ALIKE):
            processes = everyone[:1] if name in _ALIKE else everyone
            self.whole[name] += sum(step[name] for step in processes)
        for name in _MAXIMA:
            self.whole[name] = max(self.whole[name], *(step[name] for step in everyone))
        moved = sum(step["approx_kl"] for step in everyone)
        tokens = sum(step["policy_tokens"] for step in everyone)
        self._step = dict.fromkeys(self._step, 0.0)
        return moved / max(tokens, 1)

    def metrics(self, *, has_critic: bool) -> dict[str, float]:
        """Return the rollout's training metrics, over all processes."""
        whole = self.whole
        steps, tokens = max(whole["steps"], 1), max(whole["tokens"], 1)
        policy_tokens = max(whole["policy_tokens"], 1)
        of_critic = {
            "loss/value": whole["value_loss"] / steps,
            "value/clipfrac": whole["value_clipped"] / tokens,
            "value/grad_norm": whole["critic_norm"] / steps,
        }
        distilled = whole["distilled_tokens"]
        return {
            "loss/policy": whole["policy_loss"] / steps,
            "policy/approxkl": whole["approx_kl"] / policy_tokens,
            "policy/clipfrac_low": whole["low"] / policy_tokens,
            "policy/clipfrac_high": whole["high"] / policy_tokens,
            "policy/ratio_mean": whole["ratio"] / policy_tokens,
            "policy/ratio_max": whole["ratio_max"],
            "policy/ratio_first": 1 + whole["ratio_first"],
            "policy/grad_norm": whole["policy_norm"] / steps,
            **(of_critic if has_critic else {}),
            **({"teacher/divergence": whole["divergence"] / distilled} if distilled else {}),
        }

    def _add(self, **amounts: Any) -> None:
        for name, amount in amounts.items():
            self._step[name] += float(amount)

    def _raise(self, name: str, value: float) -> None:
        self._step[name] = max(self._step[name], value)
