"""How much better a response was than expected: with a critic, against its group, against all.

B rows, T tokens. groups: (B,), the same number on rows that answer the same prompt; groups may be
of unequal size. Scores are numbers: rows without one (NaN) are taken out before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from pipeline.rl.core.moments import whiten

if TYPE_CHECKING:
    from torch import Tensor

Scale = Literal["group", "batch", "none"]


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


def group_advantages(
    scores: Tensor, groups: Tensor, *, scale: Scale, epsilon: float = 1e-4, ddof: int = 1
) -> Tensor:
    """Return each row's score against its group's mean, over a spread; (B,).

    A_i = (r_i - mean of the group) / (std + epsilon) (Shao et al. 2024, "DeepSeekMath", section
    4.1.2), with the std of the group; of all rows' scores (Liu et al. 2025, "Tricks or traps?",
    section 4.1); or undivided (Liu et al. 2025, "Dr. GRPO", eq. 3, whose loss is aggregated by a
    constant). The papers have no epsilon and do not say which std. ddof 1 (unbiased) and the
    epsilon are TRL's; 0 makes a group's advantages those of mean square 1. They differ by
    sqrt(n / (n - 1)), 7% in a group of 8.

    A group without spread gets 0, not its mean's rounding error over epsilon as TRL's; one of a
    single row as well (as TRL's, whose NaN becomes 0).
    """
    of = _Groups.of(scores, groups)
    centred = torch.where(of.has_spread, of.scores - of.means, 0)
    if scale == "none":
        return centred.to(scores.dtype)
    if scale == "group":
        squares = torch.zeros_like(of.counts).index_add_(0, of.index, centred**2)
        spread = (squares / (of.counts - ddof).clamp(min=1)).sqrt()[of.index]
    else:
        about = of.scores - of.scores.mean()
        spread = ((about**2).sum() / max(len(scores) - ddof, 1)).sqrt()
    return (centred / (spread + epsilon)).to(scores.dtype)


def leave_one_out_advantages(
    scores: Tensor, groups: Tensor, *, normalize: bool = False, epsilon: float = 1e-4
) -> Tensor:
    """Return each row's score against the mean of the others of its group (RLOO), (B,).

    Ahmadian et al. 2024, section 3.3 (after Kool et al. 2019): r_i - mean of r_j, j != i, which is
    n / (n - 1) times the distance to the group's mean. A group of one gets 0.

    normalize: on to mean 0 and unbiased std 1 over all rows that are not alone, TRL's
    `normalize_advantages`; not in the paper.
    """
    of = _Groups.of(scores, groups)
    size = of.counts[of.index]
    is_alone = size == 1
    centred = torch.where(of.has_spread, of.scores - of.means, 0)
    advantages = centred * size / (size - 1).clamp(min=1)
    if normalize and int((~is_alone).sum()) > 1:
        spread, mean = torch.std_mean(advantages[~is_alone])
        advantages = torch.where(is_alone, 0, (advantages - mean) / (spread + epsilon))
    return advantages.to(scores.dtype)


def reinforce_advantages(
    rewards: Tensor, mask: Tensor, *, discount: float = 1.0, baseline: Tensor | None = None
) -> Tensor:
    """Return each token's return, whitened over all tokens of the batch (REINFORCE++); (B, T).

    Hu et al. 2025, eq. 8 to 10: what the token and all after it are rewarded with, the KL penalty
    among it, less the mean over all tokens, over their biased std. 0 where masked.

    rewards: (B, T), as `token_rewards` gives them. baseline: (B,), taken off each return before:
    `group_means` of the scores makes REINFORCE++-baseline, whose KL the paper has in the loss.
    """
    returns = gae(rewards, torch.zeros_like(rewards), mask, discount=discount, trace=1.0)
    if baseline is not None:
        returns = returns - baseline.to(returns.dtype).unsqueeze(-1)
    return whiten(returns, mask)


def group_means(scores: Tensor, groups: Tensor) -> Tensor:
    """Return the mean score of each row's group, (B,)."""
    of = _Groups.of(scores, groups)
    return of.means.to(scores.dtype)


def group_spread(scores: Tensor, groups: Tensor) -> Tensor:
    """Return whether the scores of each row's group differ at all, (B,) bool.

    Where they do not, a comparison within the group teaches nothing; one of a single row never
    does. TRL's `frac_reward_zero_std` is how many do not, by a std below 1e-8 (with `scale_rewards`
    of batch: of the whole batch).
    """
    return _Groups.of(scores, groups).has_spread


def overlong_penalty(lengths: Tensor, *, longest: int, cache: int) -> Tensor:
    """Return what long responses are paid, 0 to -1, (B,) (Yu et al. 2025, "DAPO", eq. 13).

    lengths: (B,), tokens. 0 up to longest - cache, from there down in a straight line to -1 at
    longest, and -1 beyond it.
    """
    allowed = longest - cache
    if not cache:
        return -(lengths > longest).float()
    return ((allowed - lengths.float()) / cache).clamp(-1, 0)


@dataclass(frozen=True)
class _Groups:
    """Scores in fp64, (B,), the place of each row's group among the G, and what groups have.

    counts: (G,). means, has_spread: (B,), each row its group's.
    """

    scores: Tensor
    index: Tensor
    counts: Tensor
    means: Tensor
    has_spread: Tensor

    @staticmethod
    def of(scores: Tensor, groups: Tensor) -> _Groups:
        """Sort rows into groups."""
        scores = scores.double()  # the mean of equal fp32 scores would not be equal to them
        names, index = groups.unique(return_inverse=True)
        empty = scores.new_zeros(len(names))
        counts = empty.index_add(0, index, torch.ones_like(scores))
        means = empty.index_add(0, index, scores) / counts
        low, high = (
            empty.scatter_reduce(0, index, scores, reduce, include_self=False)
            for reduce in ("amin", "amax")
        )
        return _Groups(scores, index, counts, means[index], (high > low)[index])
