"""The advantages of a rollout, as its method estimates them; the formulas are core/advantages.py's.

All processes' rows are here, so that an estimate may compare rows with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline.rl import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.objective import Distilled, Objective
    from pipeline.rl.rollout import ScoredRow


def critic_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, rows: Sequence[ScoredRow], args: RolloutConfig
) -> Tensor:
    """Return the advantage of each token by a critic's values, (B, T), before whitening."""
    discount, trace = args.discount_and_trace
    bootstrap = None
    if args.bootstraps_truncated:
        has_eos = torch.tensor([row.has_eos for row in rows])
        after = torch.tensor([row.value_after for row in rows])
        bootstrap = torch.where(has_eos, 0, after)  # (B,): nothing follows one that ended
    return core.gae(rewards, values, mask, discount=discount, trace=trace, bootstrap=bootstrap)


def group_advantages(
    scores: Tensor,
    groups: Tensor,
    kl: Tensor,
    mask: Tensor,
    objective: Objective,
    *,
    kl_coef: float,
) -> Tensor:
    """Return the advantage of each token without a critic, (B, T), 0 where masked or not rewarded.

    scores, groups: (B,). kl, mask: (B, T); kl counts where the method has it in the reward: at each
    token for REINFORCE++, else summed over a response and taken off its score.
    """
    if objective.advantage == "none":
        return torch.zeros_like(kl)
    if objective.advantage in ("reinforce", "reinforce_baseline"):
        rewards = core.token_rewards(kl, scores, mask, kl_coef=kl_coef)
        has_baseline = objective.advantage == "reinforce_baseline"
        baseline = core.group_means(scores, groups) if has_baseline else None
        return core.reinforce_advantages(rewards, mask, baseline=baseline)
    if objective.kl_in_reward:
        scores = scores - kl_coef * torch.where(mask, kl, 0).sum(-1)
    if objective.advantage == "leave_one_out":
        advantages = core.leave_one_out_advantages(
            scores, groups, normalize=objective.scale == "batch"
        )
    else:
        advantages = core.group_advantages(scores, groups, scale=objective.scale)
    return torch.where(mask, advantages.unsqueeze(-1), 0)


def teacher_advantages(log_ratio: Tensor, mask: Tensor, how: Distilled) -> Tensor:
    """Return what a teacher finds of sampled tokens, (B, T), 0 where masked.

    log_ratio: (B, T), log policy - log teacher. Its negative is a token's reward; their mean over
    samples is the reverse KL, whose gradient has all that follow a token (discount 1; Gu et al.
    2024, "MiniLLM", eq. 3), or the token alone (discount 0; less noise, and a bias).
    """
    rewards = torch.where(mask, -how.coef * log_ratio, 0)
    return core.gae(rewards, torch.zeros_like(rewards), mask, discount=how.discount, trace=1.0)
