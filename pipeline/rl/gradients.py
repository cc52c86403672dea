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
    each_one = list(parameters)
    if not each_one:
        return
    has_some = torch.tensor([each.grad is not None for each in each_one], dtype=torch.int32)
    has_some = has_some.to(each_one[0].device)
    distributed.all_reduce(has_some, op=distributed.ReduceOp.MAX)
    gradients: list[Tensor] = []
    for parameter, is_there in zip(each_one, has_some.tolist(), strict=True):
        if is_there and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    if not gradients:
        return
    flat = torch.cat([each.flatten() for each in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(
        gradients, flat.split([each.numel() for each in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def clipped_norm(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a norm, if it is above 0; return the norm that they had, ()."""
    if not any(each.grad is not None for each in parameters):
        return torch.zeros(())
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))
