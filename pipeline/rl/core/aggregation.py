"""How much the loss of each token counts in an optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

Aggregation = Literal["token", "seq", "seq_sum", "constant"]


def token_weights(
    mask: Tensor,
    *,
    aggregation: Aggregation,
    length: int | None = None,
    rows: int | None = None,
    tokens: float | None = None,
) -> Tensor:
    """Return (B, T) weights that make a sum of the losses of one optimizer step, over all of it.

    token: the mean over tokens (Yu et al. 2025, "DAPO", eq. 8). seq: the mean over rows of each
    row's mean (Shao et al. 2024, "DeepSeekMath", eq. 3). seq_sum: the mean over rows of each row's
    sum. constant: that sum over `length` and no row's own length (Liu et al. 2025, "Dr. GRPO").

    rows: how many rows a mean over rows is of; those with tokens where None. TRL's is of all rows,
    also of those that `mask_truncated_completions` left without any. tokens: how many tokens a mean
    over tokens is of; the step's own where None. TRL's `dapo` and `cispo` take those of the whole
    rollout over the steps that it makes, so that a step with few tokens is a short step; TRL's
    `bnpo` takes the mean of means over the tokens of each forward pass, which depends on how many
    rows fit in one. Neither matters with one step per rollout in one pass.
    """
    lengths = mask.sum(-1, keepdim=True)
    of_rows = (
        (lengths > 0).sum().clamp(min=1)
        if rows is None
        else torch.tensor(max(rows, 1), device=mask.device)
    )
    if aggregation == "token":
        of_tokens = lengths.sum().clamp(min=1).float() if tokens is None else max(tokens, 1.0)
        return torch.where(mask, 1.0 / of_tokens, 0.0)
    if aggregation == "seq":
        return torch.where(mask, 1.0 / (lengths.clamp(min=1) * of_rows), 0.0)
    if aggregation == "seq_sum":
        return torch.where(mask, 1.0 / of_rows.float(), 0.0)
    if length is None:
        raise ValueError("aggregation 'constant' needs a length: the most tokens of a response")
    return torch.where(mask, 1.0 / (of_rows.float() * length), 0.0)
