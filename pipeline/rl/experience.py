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
from pipeline.rl.advantages import critic_advantages, group_advantages, teacher_advantages
from pipeline.rl.rollout import gap_per_sequence, kl_per_sequence, sampling_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.objective import Objective
    from pipeline.rl.rollout import ScoredRow


@dataclass(frozen=True)
class Experience:
    """B responses of up to T tokens; (B, T) each, 0 where masked, on the CPU.

    mask: the tokens that are trained on: the policy's, and of no response that is left out.
    """

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

    def own_tokens(self, row: int) -> list[bool] | None:
        """Return which tokens of a completion are trained on; None for all."""
        mask = self.mask[row, : len(self.completions[row])]
        return None if bool(mask.all()) else mask.tolist()

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
    rows: Sequence[ScoredRow], scores: Tensor, kl_coef: float, args: RolloutConfig
) -> tuple[Experience, dict[str, float]]:
    """Return what to train on, and metrics of the rollout.

    rows: all of them, in order. scores: (B,), after normalisation, clipping and the EOS rule; rows
    without one (NaN) are not trained on, and no mean, whitening or KL of the controller's has them.
    """
    sampled = rows
    objective = args.objective
    is_scored = ~scores.isnan()
    rows = [row for row, is_kept in zip(rows, is_scored.tolist(), strict=True) if is_kept]
    scores = scores[is_scored]
    mask = _pad([row.own for row in rows])  # (B, T)
    logprobs = _pad([row.logprobs for row in rows])
    reference = _pad([row.reference for row in rows])
    values = _pad([row.values for row in rows])
    log_ratio = logprobs - reference
    kl = core.kl_estimate(log_ratio, objective.kl_estimator)
    metrics = _metrics_of_sampled(sampled)
    if len(given := [row for row in rows if row.is_given]) < len(rows):
        own = [number for number, row in enumerate(rows) if not row.is_given]
        of_own = [rows[number] for number in own]
        price = kl_coef + objective.kl_loss_coef  # of a nat, in the reward and in the loss
        metrics |= _kl_metrics(of_own, mask[own], log_ratio[own], price)
        if objective.advantage != "none":
            metrics |= _score_metrics(scores[own], mask[own], kl[own], kl_coef)
    if given:
        tokens = sum(row.num_tokens for row in given)
        metrics["objective/given_logp"] = sum(float(r.logprobs.sum()) for r in given) / tokens
        metrics["objective/given_share"] = len(given) / len(rows)
    scores = scores.float()
    if args.overlong_tokens is not None:
        penalty = core.overlong_penalty(
            mask.sum(-1), longest=args.max_completion_length, cache=args.overlong_tokens
        )
        scores = scores + penalty
        metrics["objective/overlong"] = float(penalty.mean())
    if objective.has_critic:
        rewards = core.token_rewards(kl, scores, mask, kl_coef=kl_coef)
        if args.whitens_rewards:
            # The mean stays: it says whether responses should be longer or shorter.
            rewards = core.whiten(rewards, mask, shift_mean=False)
        advantages = critic_advantages(rewards, values, mask, rows, args)
        returns = torch.where(
            mask, advantages + values, 0
        )  # before whitening: the critic's targets
        metrics |= _value_metrics(values, advantages, returns, mask)
    else:
        groups = torch.tensor([row.number // args.group_size for row in rows])
        advantages = group_advantages(scores, groups, kl, mask, objective, kl_coef=kl_coef)
        returns = torch.zeros_like(advantages)
        if objective.advantage != "none":
            spread = core.group_spread(scores, groups)
            metrics["groups/without_spread"] = float((~spread).float().mean())
    how = objective.distilled
    if how is not None and how.is_sampled:
        teacher = _pad([row.logprobs if row.teacher is None else row.teacher for row in rows])
        advantages = advantages + teacher_advantages(logprobs - teacher, mask, how)
    metrics |= _moments("advantage", advantages, mask)
    if objective.whitens:
        advantages = core.whiten(advantages, mask)
    if objective.correction is not None:
        weights, of_weights = _correct(rows, logprobs, mask, objective)
        advantages, metrics = advantages * weights, metrics | of_weights
    if objective.masks_truncated:
        has_eos = torch.tensor([row.has_eos for row in rows])
        mask = mask & has_eos.unsqueeze(-1)
        metrics["completions/masked"] = float((~has_eos).float().mean())
    prompts = [row.prompt_ids for row in rows]
    completions = [row.completion_ids for row in rows]
    experience = Experience(
        prompts, completions, mask, logprobs, reference, values, advantages, returns
    )
    return experience, metrics


def _metrics_of_sampled(rows: Sequence[ScoredRow]) -> dict[str, float]:
    """Return how the policy writes, and how far from a teacher, of what it wrote itself."""
    own = [row for row in rows if not row.is_given]
    gaps = gap_per_sequence(own)
    metrics = sampling_metrics(own) if own else {}
    return metrics | ({"teacher/kl": sum(gaps) / len(gaps)} if gaps else {})


def _correct(
    rows: Sequence[ScoredRow], logprobs: Tensor, mask: Tensor, objective: Objective
) -> tuple[Tensor, dict[str, float]]:
    """Return the weights of what another engine sampled, (B, T), and how they are."""
    unknown = [torch.full_like(row.logprobs, torch.nan) for row in rows]
    sampled = _pad(
        [
            none if row.sampled is None else row.sampled
            for row, none in zip(rows, unknown, strict=True)
        ]
    )
    assert objective.correction is not None
    weights = core.importance_weights(
        logprobs,
        sampled,
        mask,
        mode=objective.correction,
        low=objective.correction_low,
        high=objective.correction_high,
    )
    is_left_out = mask & (weights == 0)
    return weights, {
        "importance/mean": float(core.masked_mean(weights, mask)),
        "importance/left_out": float(is_left_out.sum() / mask.sum().clamp(min=1)),
    }


def _pad(rows: Sequence[Tensor]) -> Tensor:
    """Return rows of several lengths as (B, T), 0 behind each."""
    return pad_sequence(list(rows), batch_first=True)


def _kl_metrics(
    rows: Sequence[ScoredRow], mask: Tensor, log_ratio: Tensor, price: float
) -> dict[str, float]:
    """Return how far away responses are, and its price: means over the rows that are trained on."""
    k3 = core.kl_estimate(log_ratio, "k3")
    return {
        "objective/kl": sum(kl_per_sequence(rows)) / len(rows),
        "objective/kl_k3": float(core.masked_sum(k3, mask)) / len(rows),
        "objective/kl_coef": price,
    }


def _score_metrics(scores: Tensor, mask: Tensor, kl: Tensor, kl_coef: float) -> dict[str, float]:
    """Return how good responses are, KL taken off: means over the rows that are trained on."""
    off_score = float(-kl_coef * core.masked_sum(kl, mask)) / len(scores)
    return {
        "objective/scores_after": float(scores.mean()),
        "objective/non_score_reward": off_score,
        "objective/rlhf_reward": float(scores.mean()) + off_score,
    }


def _value_metrics(
    values: Tensor, advantages: Tensor, returns: Tensor, mask: Tensor
) -> dict[str, float]:
    """Return how good the critic is: means over tokens."""
    return {
        "value/mean": float(core.masked_mean(values, mask)),
        "value/explained_var": core.explained_variance(values, returns, mask),
        **_moments("returns", returns, mask),
    }


def _moments(name: str, numbers: Tensor, mask: Tensor) -> dict[str, float]:
    mean, variance = core.masked_moments(numbers, mask)
    return {f"{name}/mean": float(mean), f"{name}/std": float(variance) ** 0.5}
