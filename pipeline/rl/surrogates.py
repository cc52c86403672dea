"""Which surrogate loss a method takes: of each token, or of a whole response.

The formulas are core/losses.py's. A response's ratio is made of all its tokens, which cross the
chunks that the head is gone through in: its slope is found first, without gradients, and each
token's gradient is then that slope times its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.rl import core

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.rl.batch import Batch
    from pipeline.rl.objective import Objective


def token_surrogate(
    new: Tensor, old: Tensor, advantages: Tensor, objective: Objective
) -> core.PolicyLoss:
    """Return the loss of each token, (n,). new, old: log-probabilities, (n,)."""
    if objective.surrogate == "cispo":
        return core.cispo_loss(new, old, advantages, clip_high=objective.clip_high)
    if objective.surrogate == "sapo":
        above, below = objective.temperatures
        return core.sapo_loss(new, old, advantages, temperature_pos=above, temperature_neg=below)
    return core.policy_loss(
        new,
        old,
        advantages,
        clip_low=objective.clip_low,
        clip_high=objective.clip_high,
        dual_clip=objective.dual_clip,
    )


@dataclass(frozen=True)
class SequenceSurrogate:
    """The surrogate of whole responses, spread over their N tokens, (N,) each.

    slopes: the gradient of the loss by each token's new log-probability. loss: of each token before
    its weight.
    """

    slopes: Tensor
    loss: Tensor
    ratio: Tensor
    clipped_low: Tensor
    clipped_high: Tensor

    def tokens(self, part: slice) -> core.PolicyLoss:
        """Return a part of it as a loss of tokens has it."""
        return core.PolicyLoss(
            self.loss[part], self.ratio[part], self.clipped_low[part], self.clipped_high[part]
        )


def sequence_surrogate(batch: Batch, new: Tensor, objective: Objective) -> SequenceSurrogate:
    """Return the loss of whole responses. new: log p of the policy as it is, (N,)."""
    rows, weights = batch.rows, batch.weights
    number = int(rows.max()) + 1 if len(rows) else 0
    none = torch.zeros(number, device=weights.device)

    def sum_by_row(numbers: Tensor) -> Tensor:
        """Return (b,) sums of (N,)."""
        return none.index_add(0, rows, numbers.float())

    shares = torch.ones_like(weights)  # d log-ratio of the row / d log-ratio of the token
    if objective.ratio == "sequence_mean":
        shares = shares / sum_by_row(shares)[rows]
    log_ratios = sum_by_row((new - batch.logprobs) * shares)
    mass = sum_by_row(weights)
    # Losses are multiples of advantages, so that weights may be taken into these.
    advantages = sum_by_row(weights * batch.advantages) / mass.clamp(min=torch.finfo().tiny)
    found = core.sequence_loss(
        log_ratios,
        advantages,
        clip_low=objective.clip_low,
        clip_high=objective.clip_high,
        dual_clip=objective.dual_clip,
    )
    return SequenceSurrogate(
        (found.slope * mass)[rows] * shares,
        found.loss[rows],
        found.ratio[rows],
        found.clipped_low[rows],
        found.clipped_high[rows],
    )
