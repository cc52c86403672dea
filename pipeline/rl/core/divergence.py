"""How far a student's distribution over the next token is from a teacher's, with its gradient.

Agarwal et al. 2024, "On-policy distillation of language models", eq. 1: the generalised
Jensen-Shannon divergence, whose ends are the forward (Hinton et al. 2015) and the reverse KL (Gu et
al. 2024, "MiniLLM"). Gradients are written out: autograd would keep several copies of (n, V).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_MOST_IN_SUPPORT = -1e-7  # log of the mass of the first k tokens, so that the rest has some; TRL's


@dataclass(frozen=True)
class Divergence:
    """value: (n,), in nats a token. gradient: (n, V), of each value by the student's logits."""

    value: Tensor
    gradient: Tensor


def divergence(student: Tensor, teacher: Tensor, *, beta: float) -> Divergence:
    """Return the divergence of whole distributions. student, teacher: log-probabilities, (n, V).

    beta: 0 for KL(teacher, student), 1 for KL(student, teacher), between them beta KL(teacher, m) +
    (1 - beta) KL(student, m) with m = beta teacher + (1 - beta) student. What is impossible has a
    very low number and not -inf, which times 0 would be NaN.
    """
    p = student.exp()
    if beta == 0:
        q = teacher.exp()
        return Divergence(torch.linalg.vecdot(q, teacher - student), p - q)
    if beta == 1:
        gap = student - teacher
        value = torch.linalg.vecdot(p, gap)
        return Divergence(value, p.mul_(gap.sub_(value.unsqueeze(-1))))
    mixture = torch.logaddexp(student + log1p(-beta), teacher + log(beta))
    gap = student - mixture
    of_student = torch.linalg.vecdot(p, gap)
    of_teacher = torch.linalg.vecdot(teacher.exp(), teacher - mixture)
    gradient = p.mul_(gap.sub_(of_student.unsqueeze(-1))).mul_(1 - beta)
    return Divergence(beta * of_teacher + (1 - beta) * of_student, gradient)


def top_k_divergence(
    student: Tensor, teacher: Tensor, *, beta: float, top_k: int, add_tail: bool
) -> Divergence:
    """Return the divergence over the k likeliest tokens: less memory traffic, and a bias.

    The teacher's k for beta 0, the student's for beta 1, both for what is between. add_tail: all
    other tokens count as one more; else both distributions are scaled to 1 over the k. As in TRL's
    `loss_top_k` and `loss_add_tail`.
    """
    sides = {0: (teacher,), 1: (student,)}.get(beta, (teacher, student))  # pyright: ignore[reportArgumentType, reportCallIssue]
    support = torch.cat([side.topk(top_k, -1).indices for side in sides], -1)  # (n, k) or (n, 2k)
    is_first = torch.ones_like(support, dtype=torch.bool)
    if len(sides) == 2:  # what is in both counts once
        is_first[:, top_k:] = (support[:, top_k:, None] != support[:, None, :top_k]).all(-1)
    with torch.enable_grad():
        chosen = student.gather(1, support).requires_grad_()
        ours = _over_support(chosen, is_first, add_tail=add_tail)
        theirs = _over_support(teacher.gather(1, support), is_first, add_tail=add_tail)
        value = _plain_divergence(ours, theirs, beta)
        (slope,) = torch.autograd.grad(value.sum(), chosen)
    # d log p(i) / d logits = onehot(i) - p
    gradient = student.exp().mul_(-slope.sum(-1, keepdim=True)).scatter_add_(1, support, slope)
    return Divergence(value.detach(), gradient)


def _over_support(logprobs: Tensor, is_first: Tensor, *, add_tail: bool) -> Tensor:
    """Return log-probabilities over a support, (n, k), which add up to 1; very low where masked."""
    lowest = torch.finfo(logprobs.dtype).min / 4
    masked = torch.where(is_first, logprobs, lowest)
    total = masked.logsumexp(-1, keepdim=True)
    if not add_tail:
        return torch.where(is_first, masked - total, lowest)
    rest = torch.log(-torch.expm1(total.clamp(max=_MOST_IN_SUPPORT)))
    return torch.cat([masked, rest], -1)


def _plain_divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Return (n,) for a few tokens, whose gradient autograd finds."""
    p, q = student.exp(), teacher.exp()
    if beta == 0:
        return (q * (teacher - student)).sum(-1)
    if beta == 1:
        return (p * (student - teacher)).sum(-1)
    mixture = torch.logaddexp(student + log1p(-beta), teacher + log(beta))
    of_teacher = (q * (teacher - mixture)).sum(-1)
    return beta * of_teacher + (1 - beta) * (p * (student - mixture)).sum(-1)
