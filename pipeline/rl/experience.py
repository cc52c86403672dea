"""A rollout as it is trained on: what was sampled, and what every part thought of it.

Each process samples and scores its share; then all hold all of it, and what follows (rewards,
advantages, their whitening, metrics) is computed alike everywhere, so that none of it depends on
how many processes there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.rl import core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.rl.config import PPOConfig


@dataclass(frozen=True)
class ScoredRow:
    """One response, L tokens with its stop token, and its scores; fp32 on the CPU.

    number: in the whole rollout. prompt: its number in the data. logprobs, reference: (L,) log p of
    policy and reference. values: (L,), before each token; value_after: after the last one.
    entropy: sum over tokens. rewards: (K,), one a reward function, NaN where it has none.
    sampled: (L,), the sampler's own log-probabilities, if it gives them. logged: what reward
    functions logged of it (`log_extra`), by `term/name`.
    """

    number: int
    prompt: int
    prompt_ids: list[int]
    completion_ids: list[int]
    has_eos: bool
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    value_after: float
    entropy: float
    rewards: Tensor
    sampled: Tensor | None
    logged: dict[str, Any] = field(default_factory=dict[str, Any])


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
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in _LISTS
        }
        for name in _LISTS:
            rows: list[list[int]] = getattr(self, name)
            tensors[name] = torch.tensor([token for row in rows for token in row])
            tensors[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        save_file(tensors, path)

    @staticmethod
    def load(path: Path) -> Experience:
        """Read what `save` wrote."""
        found: dict[str, Any] = load_file(path)
        for name in _LISTS:
            lengths = found.pop(f"{name}_lengths").tolist()
            found[name] = [row.tolist() for row in found[name].split(lengths)]
        return Experience(**found)


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
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    logprobs = _rows([row.logprobs for row in rows])
    reference = _rows([row.reference for row in rows])
    values = _rows([row.values for row in rows])
    log_ratio = logprobs - reference
    kl = core.kl_estimate(log_ratio, args.kl_estimator)  # pyright: ignore[reportArgumentType]
    rewards = core.token_rewards(kl, scores.float(), mask, kl_coef=kl_coef)
    if args.whiten_rewards:
        rewards = core.whiten(rewards, mask, shift_mean=False)
    has_eos = torch.tensor([row.has_eos for row in rows])
    after = torch.tensor([row.value_after for row in rows])
    advantages = core.gae(
        rewards,
        values,
        mask,
        discount=args.gamma,
        trace=args.lam,
        bootstrap=torch.where(has_eos, 0, after) if args.truncation == "bootstrap" else None,
    )
    returns = torch.where(mask, advantages + values, 0)
    metrics = of_sampling(sampled)
    metrics |= _metrics(rows, scores, mask, log_ratio, values, advantages, returns, kl_coef)
    metrics["objective/non_score_reward"] = float(-kl_coef * core.masked_sum(kl, mask)) / len(rows)
    metrics["objective/rlhf_reward"] = float(scores.mean()) + metrics["objective/non_score_reward"]
    if args.whiten_advantages:
        advantages = core.whiten(advantages, mask)
    prompts = [row.prompt_ids for row in rows]
    completions = [row.completion_ids for row in rows]
    found = Experience(prompts, completions, mask, logprobs, reference, values, advantages, returns)
    return found, metrics


def kl_per_sequence(rows: Sequence[ScoredRow]) -> list[float]:
    """Return the sum over tokens of log p - log reference of each row, in nats."""
    return [float((row.logprobs - row.reference).double().sum()) for row in rows]


def _rows(each: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(each), batch_first=True)


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


def of_sampling(rows: Sequence[ScoredRow]) -> dict[str, float]:
    """Return how the policy writes: means over all rows, rewarded or not, or over their tokens."""
    lengths = [len(row.completion_ids) for row in rows]
    tokens, number = sum(lengths), len(rows)
    gaps = [
        float((row.sampled - row.logprobs).abs().max())
        for row in rows
        if row.sampled is not None and len(row.sampled)
    ]
    found = {
        "objective/entropy": sum(row.entropy for row in rows) / max(tokens, 1),
        "objective/logp_entropy": -sum(float(row.logprobs.sum()) for row in rows) / number,
        "eos_rate": sum(row.has_eos for row in rows) / number,
        "completions/length_mean": tokens / number,
        "completions/length_min": float(min(lengths)),
        "completions/length_max": float(max(lengths)),
        "completions/pad_fraction": 1 - tokens / max(number * max(lengths), 1),
    }
    return found | ({"rollout/logp_gap": max(gaps)} if gaps else {})
