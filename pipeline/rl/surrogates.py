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
    shares = torch.ones_like(weights)  # d log-ratio of the row / d log-ratio of the token
    if objective.ratio == "sequence_mean":
        shares = shares / _sum_by_row(shares, rows)[rows]
    log_ratios = _sum_by_row((new - batch.logprobs) * shares, rows)
    mass = _sum_by_row(weights, rows)
    # Losses are multiples of advantages, so that weights may be taken into these.
    advantages = _sum_by_row(weights * batch.advantages, rows) / mass.clamp(min=torch.finfo().tiny)
    if objective.surrogate == "vespo":
        return _vespo_surrogate(batch, new, log_ratios, advantages, objective)
    found = core.sequence_loss(
        log_ratios,
        advantages,
        clip_low=objective.clip_low,
        clip_high=objective.clip_high,
        dual_clip=objective.dual_clip,
    )
    slopes = found.slope * mass
    if objective.kl_loss_coef and objective.is_kl_corrected:
        # The KL is multiplied by the ratio, which carries a gradient of its own.
        kl = core.kl_estimate(new - batch.reference, objective.kl_loss_estimator)
        slopes = slopes + objective.kl_loss_coef * _sum_by_row(weights * kl, rows) * found.ratio
    return SequenceSurrogate(
        slopes[rows] * shares,
        found.loss[rows],
        found.ratio[rows],
        found.clipped_low[rows],
        found.clipped_high[rows],
    )


def _vespo_surrogate(
    batch: Batch, new: Tensor, log_ratios: Tensor, advantages: Tensor, objective: Objective
) -> SequenceSurrogate:
    """Return VESPO's loss. new: (N,). log_ratios, advantages: of whole responses, (b,)."""
    k_above, lambda_above, k_below, lambda_below = objective.kernel
    of_rows = core.vespo_weights(
        log_ratios,
        advantages,
        **{"k_pos": k_above, "lambda_pos": lambda_above},
        **{"k_neg": k_below, "lambda_neg": lambda_below},
    )
    slopes = -(of_rows * advantages)[batch.rows]
    nowhere = torch.zeros_like(slopes, dtype=torch.bool)
    ratio = core.ratio_of(log_ratios)[batch.rows]
    return SequenceSurrogate(slopes * batch.weights, slopes * new, ratio, nowhere, nowhere)


def _sum_by_row(numbers: Tensor, rows: Tensor) -> Tensor:
    """Return the sum of each row's tokens, (b,). numbers: (N,). rows: (N,), the row of each."""
    number = int(rows.max()) + 1 if len(rows) else 0
    return torch.zeros(number, device=rows.device).index_add(0, rows, numbers.float())
