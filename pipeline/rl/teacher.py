"""Teacher: the model whose distributions a student learns, and the divergence sent to the student.

Frozen, asked without gradients, in passes of its own size. As everywhere (logprobs.py) its head is
gone through in chunks: beside the (n, V) logits of the student's chunk stand as many of the
teacher's, and never those of a whole batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from eval.model import positions_of
from pipeline.models.frozen import keep_frozen
from pipeline.rl import core
from pipeline.rl.actor import evaluating, last_hidden
from pipeline.rl.logprobs import Head, check_head, head_of, log_probabilities
from pipeline.rl.resume_settings import digest_weights
from pipeline.training.precision import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.objective import Distilled
    from pipeline.rl.sampler import Sampling
    from pipeline.rl.sequences import Sequences


@dataclass(frozen=True)
class Teacher:
    """A causal language model that knows the student's tokens by the same ids.

    vocabulary, temperature, forbidden: of the student's own distributions: over so many ids, which
    those that the teacher has no row for are never of. rows: of one forward pass. autocast: the
    context of training.
    """

    model: PreTrainedModel
    vocabulary: int
    temperature: float
    forbidden: tuple[int, ...]
    rows: int
    autocast: Callable[[], AbstractContextManager[Any]]

    def head(self) -> Head:
        """Return what makes log-probabilities of its hidden states, over the student's tokens."""
        rows = head_of(self.model).vocabulary
        forbidden = [token for token in self.forbidden if token < rows]
        forbidden += range(self.vocabulary, rows)
        return head_of(self.model, temperature=self.temperature, forbidden=tuple(forbidden))

    @torch.no_grad()
    def hidden(self, sequences: Sequences) -> Tensor:
        """Return its hidden states that predict the student's tokens, (N, d)."""
        parts: list[Tensor] = []
        with evaluating(self.model), self.autocast():
            for begin in range(0, len(sequences.ids), self.rows):
                part = sequences.rows(slice(begin, begin + self.rows))
                parts.append(last_hidden(self.model.base_model, part)[part.predicts])
        return torch.cat(parts)

    @torch.no_grad()
    def logprobs(self, sequences: Sequences) -> Tensor:
        """Return its log-probabilities of the student's tokens, (N,), in fp32."""
        hidden = self.hidden(sequences)
        with self.autocast():
            return log_probabilities(self.head(), hidden, sequences.targets)[0]

    def digest(self) -> str:
        """Return a digest of its weights."""
        digest = hashlib.sha256()
        digest_weights(digest, self.model.parameters())
        return digest.hexdigest()[:16]


def least_positions(policy: PreTrainedModel, teacher: PreTrainedModel | None) -> int | None:
    """Return how many tokens both can read; None for no bound."""
    networks = [policy] if teacher is None else [policy, teacher]
    known = [positions_of(network.config) for network in networks]
    return min((positions for positions in known if positions is not None), default=None)


def take_teacher(
    model: PreTrainedModel,
    sampling: Sampling,
    actor: Actor,
    args: RolloutConfig,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[Sampling, Teacher]:
    """Freeze a teacher and put it where training is; return how its student samples, and it.

    The student never writes ids that the teacher has no row for, which are of no token. Raises
    ValueError for a model that does more to its logits than is known, or whose rows end a response.
    """
    model.requires_grad_(requires_grad=False)
    dtype = dtype_of(args)
    if dtype is not None:
        keep_frozen(model, dtype)
    torch.nn.Module.to(model, args.device)  # a quantised one stays where it is
    with evaluating(model), autocast():
        check_head(model)
    ours, theirs = (head_of(network).vocabulary for network in (actor.causal, model))
    beyond = range(theirs, ours)
    if ends := sorted(sampling.eos_token_ids & set(beyond)):
        raise ValueError(f"the teacher has no row for token {ends[0]}, which ends a response")
    sampling = replace(sampling, forbidden_ids=(*sampling.forbidden_ids, *beyond))
    teacher = Teacher(
        model=model,
        vocabulary=ours,
        temperature=args.temperature,
        forbidden=sampling.forbidden_ids,
        rows=args.scoring_batch_size,
        autocast=autocast,
    )
    return sampling, teacher


def distilled_gradient(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    of_teacher: tuple[Head, Tensor],
    loss_of: Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]],
    how: Distilled,
) -> Tensor:
    """Send the gradients of divergences and log-probabilities into the head; return the states'.

    hidden: (N, d) of the student. of_teacher: its head, and its hidden states, (N, d'). loss_of:
    takes the log-probabilities (n,) of a part of the targets, the divergences (n,) there, and which
    part; returns the part's contribution beside the divergence, (), and each divergence's weight,
    (n,). The gradient returned, (N, d), is what `hidden.backward` wants.
    """
    leaf = hidden.detach()
    gradient = torch.zeros_like(leaf)
    theirs, states = of_teacher
    for part in head.chunks(len(targets)):
        with torch.enable_grad():
            piece = leaf[part].requires_grad_()
            logits = head.logits(piece)  # (n, V)
        student = _log_softmax(logits.detach(), head.forbidden)
        with torch.no_grad():
            teacher = _log_softmax(theirs.logits(states[part]), theirs.forbidden)
        shared = min(head.vocabulary, theirs.vocabulary)  # what is beyond is forbidden
        found = diverge(student[:, :shared], teacher[:, :shared], how)
        with torch.enable_grad():
            chosen = student.gather(1, targets[part, None]).squeeze(-1).requires_grad_()
            loss, weights = loss_of(chosen, found.value, part)
            loss.backward()
        assert chosen.grad is not None
        pull = chosen.grad.unsqueeze(-1)
        # d log p(target) / d logits = onehot(target) - p
        of_logits = student.exp_().mul_(-pull).scatter_add_(1, targets[part, None], pull)
        of_logits[:, :shared] += found.gradient.mul_(weights.unsqueeze(-1))
        logits.backward(of_logits)
        assert piece.grad is not None
        gradient[part] = piece.grad
    return gradient


def diverge(student: Tensor, teacher: Tensor, how: Distilled) -> core.Divergence:
    """Return the divergence that a method asks for. student, teacher: (n, V) log-probabilities."""
    if 0 < how.top_k < student.shape[-1]:
        return core.top_k_divergence(
            student, teacher, beta=how.beta, top_k=how.top_k, add_tail=how.add_tail
        )
    return core.divergence(student, teacher, beta=how.beta)


def _log_softmax(logits: Tensor, forbidden: tuple[int, ...]) -> Tensor:
    """Return log-probabilities (n, V), very low where forbidden: -inf times 0 would be NaN."""
    if forbidden:
        logits = logits.index_fill(
            1,
            torch.tensor(forbidden, device=logits.device),
            torch.finfo(logits.dtype).min / 4,
        )
    return logits.log_softmax(-1)
