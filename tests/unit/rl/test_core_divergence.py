"""Divergences from a teacher and their gradients, against plain formulas and TRL's losses."""

import os
from typing import Any

import pytest
import torch

from pipeline.rl.core import Divergence, divergence, top_k_divergence

BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)
_ROWS = torch.zeros(1, 6, dtype=torch.long)  # labels: all six tokens count


def logits(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(6, 11, generator=generator, dtype=dtype)


def found(beta: float, **how: Any) -> Divergence:
    student, teacher = logits(0).log_softmax(-1), logits(1).log_softmax(-1)
    if how:
        return top_k_divergence(student, teacher, beta=beta, **how)
    return divergence(student, teacher, beta=beta)


def plain(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """Return eq. 1 of Agarwal et al. 2024, or KL at its ends, token by token."""
    p, q = student.softmax(-1), teacher.softmax(-1)
    if beta == 0:
        return (q * (q / p).log()).sum(-1)
    if beta == 1:
        return (p * (p / q).log()).sum(-1)
    mixture = beta * q + (1 - beta) * p
    of_teacher, of_student = (q * (q / mixture).log()).sum(-1), (p * (p / mixture).log()).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student


@pytest.mark.parametrize("beta", BETAS)
def test_a_divergence_and_its_gradient_are_those_of_the_formula(beta: float) -> None:
    student = logits(0).requires_grad_()
    expected = plain(student, logits(1), beta)
    (slope,) = torch.autograd.grad(expected.sum(), student)
    ours = found(beta)
    assert torch.allclose(ours.value, expected.detach(), atol=1e-12)
    assert torch.allclose(ours.gradient, slope, atol=1e-12)


@pytest.mark.parametrize("add_tail", [True, False])
@pytest.mark.parametrize("top_k", [0, 1, 3])
@pytest.mark.parametrize("beta", BETAS)
def test_losses_and_gradients_are_trls(
    beta: float, top_k: int, add_tail: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its GKDTrainer for whole distributions, and of its IWOPDTrainer for the first k tokens."""
    monkeypatch.setitem(os.environ, "TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.iw_opd.iw_opd_trainer import IWOPDTrainer

    how: dict[str, Any] = {"top_k": top_k, "add_tail": add_tail} if top_k else {}
    theirs: Any = IWOPDTrainer if top_k else GKDTrainer
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = theirs.generalized_jsd_loss(student[None], teacher[None], labels=_ROWS, beta=beta, **how)
    (slope,) = torch.autograd.grad(loss, student)
    ours = found(beta, **how)
    assert float((ours.value.mean() - loss.detach()).abs()) < 1e-12
    assert torch.allclose(ours.gradient / 6, slope, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_student_that_is_its_teacher_learns_nothing(beta: float) -> None:
    same = logits(0).log_softmax(-1)
    for ours in (
        divergence(same, same, beta=beta),
        top_k_divergence(same, same, beta=beta, top_k=3, add_tail=True),
    ):
        assert float(ours.value.abs().max()) < 1e-12
        assert float(ours.gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("beta", BETAS)
def test_what_is_forbidden_to_both_adds_nothing_and_is_no_nan(beta: float) -> None:
    student, teacher = logits(0), logits(1)
    lowest = torch.finfo(torch.float64).min / 4
    masked = [side.index_fill(1, torch.tensor([2, 5]), lowest) for side in (student, teacher)]
    rest = [index for index in range(11) if index not in (2, 5)]
    ours = divergence(*(side.log_softmax(-1) for side in masked), beta=beta)
    assert torch.allclose(ours.value, plain(student[:, rest], teacher[:, rest], beta), atol=1e-12)
    assert float(ours.gradient[:, [2, 5]].abs().max()) == 0
