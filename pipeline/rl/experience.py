"""Experience: a rollout as it is trained on, with advantages and returns; (B, T) tensors.

Each process samples and scores its share; then all hold all of it, and what follows (rewards,
advantages, their whitening, metrics) is computed alike everywhere, so that none of it depends on
how many processes there are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.rl import core
from pipeline.rl.rollout import kl_per_sequence, sampling_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.rl.config import PPOConfig
    from pipeline.rl.rollout import ScoredRow


@dataclass(frozen=True)
class Experience:
    """B responses of up to T tokens; (B, T) each, 0 where masked, on the CPU."""

    prompts: list[list[int]]
    completions: list[list[int]]
    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt included."""
        return [len(p) + len(c) for p, c in zip(self.prompts, self.completions, strict=True)]

    def save(self, path: Path) -> None:
        """Write it as safetensors, for a checkpoint in the middle of a rollout."""
        tensors = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _LISTS
        }
        for name in _LISTS:  # ragged: all tokens in a row, and the lengths to part them by
            rows: list[list[int]] = getattr(self, name)
            tensors[name] = torch.tensor([token for row in rows for token in row])
            tensors[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        save_file(tensors, path)

    @staticmethod
    def load(path: Path) -> Experience:
        """Read what `save` wrote."""
        parts: dict[str, Any] = load_file(path)
        for name in _LISTS:
            lengths = parts.pop(f"{name}_lengths").tolist()
            parts[name] = [row.tolist() for row in parts[name].split(lengths)]
        return Experience(**parts)


_LISTS = ("prompts", "completions")


def experience_of(
    rows: Sequence[ScoredRow], scores: Tensor, kl_coef: float, args: PPOConfig
) -> tuple[Experience, dict[str, float]]:
    """Return what to train on, and metrics of the rollout.

    rows: all of them, in order. scores: (B,), after normalisation, clipping and the EOS rule; rows
    without one (NaN) are not trained on, and no mean, whitening or KL of the controller's has them.
    """
    sampled = rows
    is_scored = ~scores.isnan()
    rows = [row for row, is_kept in zip(rows, is_scored.tolist(), strict=True) if is_kept]
    scores = scores[is_scored]
    lengths = torch.tensor([len(row.completion_ids) for row in rows])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]  # (B, T)
    logprobs = _pad([row.logprobs for row in rows])
    reference = _pad([row.reference for row in rows])
    values = _pad([row.values for row in rows])
    log_ratio = logprobs - reference
    kl = core.kl_estimate(log_ratio, args.kl_estimator)  # pyright: ignore[reportArgumentType]
    rewards = core.token_rewards(kl, scores.float(), mask, kl_coef=kl_coef)
    if args.whiten_rewards:
        # The mean stays: it says whether responses should be longer or shorter.
        rewards = core.whiten(rewards, mask, shift_mean=False)
    advantages = _estimate_advantages(rewards, values, mask, rows, args)
    returns = torch.where(mask, advantages + values, 0)  # before whitening: targets of the critic
    metrics = sampling_metrics(sampled)
    metrics |= _metrics(rows, scores, mask, log_ratio, values, advantages, returns, kl_coef)
    metrics["objective/non_score_reward"] = float(-kl_coef * core.masked_sum(kl, mask)) / len(rows)
    metrics["objective/rlhf_reward"] = float(scores.mean()) + metrics["objective/non_score_reward"]
    if args.whiten_advantages:
        advantages = core.whiten(advantages, mask)
    prompts = [row.prompt_ids for row in rows]
    completions = [row.completion_ids for row in rows]
    experience = Experience(
        prompts, completions, mask, logprobs, reference, values, advantages, returns
    )
    return experience, metrics


def _estimate_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, rows: Sequence[ScoredRow], args: PPOConfig
) -> Tensor:
    """Return the advantage of each token, (B, T), before whitening: PPO's, with a critic's values.

    All processes' rows are here, so that an estimate may compare rows with each other.
    """
    bootstrap = None
    if args.truncation == "bootstrap":
        has_eos = torch.tensor([row.has_eos for row in rows])
        after = torch.tensor([row.value_after for row in rows])
        bootstrap = torch.where(has_eos, 0, after)  # (B,): nothing follows one that ended
    return core.gae(rewards, values, mask, discount=args.gamma, trace=args.lam, bootstrap=bootstrap)


def _pad(rows: Sequence[Tensor]) -> Tensor:
    """Return rows of several lengths as (B, T), 0 behind each."""
    return pad_sequence(list(rows), batch_first=True)


def _metrics(
    rows: Sequence[ScoredRow],
    scores: Tensor,
    mask: Tensor,
    log_ratio: Tensor,
    values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    kl_coef: float,
) -> dict[str, float]:
    """Return what is known before training: means over the rows it is on, or their tokens."""
    number = len(rows)
    k3 = core.kl_estimate(log_ratio, "k3")
    advantage, spread = core.masked_moments(advantages, mask)
    mean, variance = core.masked_moments(returns, mask)
    return {
        "objective/kl": sum(kl_per_sequence(rows)) / number,
        "objective/kl_k3": float(core.masked_sum(k3, mask)) / number,
        "objective/kl_coef": kl_coef,
        "objective/scores_after": float(scores.mean()),
        "value/mean": float(core.masked_mean(values, mask)),
        "value/explained_var": core.explained_variance(values, returns, mask),
        "returns/mean": float(mean),
        "returns/std": float(variance) ** 0.5,
        "advantage/mean": float(advantage),
        "advantage/std": float(spread) ** 0.5,
    }
