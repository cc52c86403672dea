"""Gradients of an optimizer step: summed over processes, clipped for policy and critic apart.

By hand and not by DDP's hooks, which expect one backward pass through all parameters: here policy
and critic have one each, and while the critic warms up the policy has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn


def sum_over_processes(parameters: Iterable[nn.Parameter]) -> None:
    """Make every gradient the sum of all processes'. Losses are weighted over the whole step.

    A process that had no row in this step has no gradients: zeros, where another one has some.
    """
    weights = list(parameters)
    if not weights:
        return
    has_some = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32)
    has_some = has_some.to(weights[0].device)
    distributed.all_reduce(has_some, op=distributed.ReduceOp.MAX)
    gradients: list[Tensor] = []
    for weight, is_there in zip(weights, has_some.tolist(), strict=True):
        if is_there and weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if weight.grad is not None:
            gradients.append(weight.grad)
    if not gradients:
        return
    # One message instead of one per weight.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_norm(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a norm, if it is above 0; return the norm that they had, ()."""
    if not any(weight.grad is not None for weight in parameters):
        return torch.zeros(())
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))
