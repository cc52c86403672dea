"""Log-probabilities of chosen tokens, in chunks: (N, V) logits of a whole batch never exist.

A language model is split into its network and its head: the network gives hidden states, the head
projects those that predict a completion token, a chunk at a time. In training each chunk is brought
to its loss and back to its hidden states before the next one, so that nothing is computed twice and
what is kept is of the size of the hidden states, whatever the vocabulary.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
    from transformers import PreTrainedModel

# Of logits in fp32, 16 to 64 MiB: the head's weights are read, and their gradient is added to, once
# a chunk, so that few tokens a chunk cost more than their products do.
_LEAST_ELEMENTS, _MOST_ELEMENTS = 2**22, 2**24
_LEAST_TOKENS = 64
_SHARE_OF_MEMORY = 1 / 512


@dataclass(frozen=True)
class Head:
    """What makes log-probabilities of hidden states.

    project: (n, d) -> (n, V) logits. weight: (V, d), where these are hidden @ weight.T and nothing
    else. temperature: logits are divided by it, as in sampling.
    forbidden: ids that are never sampled, whose probability is 0. elements: of logits that are made
    at a time; of very large vocabularies, those of 64 tokens.
    """

    project: Callable[[Tensor], Tensor]
    vocabulary: int
    weight: nn.Parameter | None = None
    temperature: float = 1.0
    forbidden: tuple[int, ...] = ()
    elements: int = _LEAST_ELEMENTS

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (n, V) in fp32, divided by the temperature. They may be overwritten."""
        logits = self.project(hidden).float()
        return logits if self.temperature == 1 else logits / self.temperature

    def chunks(self, number: int) -> Iterator[slice]:
        """Yield the parts of so many rows whose logits fit into memory together."""
        size = max(_LEAST_TOKENS, self.elements // self.vocabulary)
        yield from (slice(begin, begin + size) for begin in range(0, number, size))


def head_of(
    model: PreTrainedModel, *, temperature: float = 1.0, forbidden: tuple[int, ...] = ()
) -> Head:
    """Return a causal language model's head, with what its architecture does to its logits."""
    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Module):
        message = f"{type(model).__name__} has no output embeddings to project by"
        raise ValueError(message)  # noqa: TRY004
    config: Any = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    scale = getattr(config, "logit_scale", None)  # Cohere
    divisor = getattr(config, "logits_scaling", None)  # Granite

    def project(hidden: Tensor) -> Tensor:
        logits = projection(hidden)
        if cap:
            logits = torch.tanh(logits / cap) * cap
        if scale:
            logits = logits * scale
        return logits / divisor if divisor else logits

    weight: Any = projection.weight
    is_plain = type(projection) is nn.Linear and projection.bias is None
    is_plain = is_plain and not (cap or scale or divisor)
    own = weight if is_plain else None
    elements = _elements_at_a_time(weight.device)
    return Head(project, weight.shape[0], own, temperature, forbidden, elements)


@cache
def _elements_at_a_time(device: torch.device) -> int:
    """Return how many logits fit easily, by all the memory that a device has.

    Not by what is free: a run that resumes after a kill must do the same sums.
    """
    if device.type == "cuda":
        memory_bytes = torch.cuda.get_device_properties(device).total_memory
    else:
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    elements = int(memory_bytes * _SHARE_OF_MEMORY) // 4
    return max(_LEAST_ELEMENTS, min(_MOST_ELEMENTS, 1 << (elements.bit_length() - 1)))


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Raise ValueError for a model that does more to its logits than `head_of` knows of."""
    network: Any = model
    ids = torch.tensor([[0, 1]], device=model.device)
    theirs = network(input_ids=ids, use_cache=False).logits[0].float()
    hidden = network.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = head_of(model).logits(hidden)
    # Of the largest one: in bf16 a logit has three digits.
    if not torch.allclose(ours, theirs, rtol=0.0, atol=2e-2 * float(theirs.abs().max())):
        name = type(model).__name__
        raise ValueError(f"{name} makes its logits in a way that PPO does not know; take another")


@torch.no_grad()
def log_probabilities(
    head: Head, hidden: Tensor, targets: Tensor, *, with_entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return log p of the targets and, if asked, the exact entropies, (N,) each, in fp32.

    hidden: (N, d). targets: (N,) token ids.
    """
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for part in head.chunks(len(targets)):
        logits = head.logits(hidden[part])  # (n, V)
        if head.forbidden:
            logits[:, head.forbidden] = -torch.inf
        chosen = logits.gather(1, targets[part, None])
        highest = logits.amax(-1, keepdim=True)
        logits.sub_(highest)
        weights = logits.exp()
        total = weights.sum(-1, keepdim=True)
        logprobs.append((chosen - highest - total.log()).squeeze(-1))
        if with_entropy:
            # -inf times 0 is NaN; a forbidden token adds nothing.
            expected = torch.linalg.vecdot(weights, logits.clamp(min=torch.finfo().min / 2))
            entropies.append(total.log().squeeze(-1) - expected / total.squeeze(-1))
    empty = hidden.new_zeros(0, dtype=torch.float32)
    return torch.cat([empty, *logprobs]), torch.cat([empty, *entropies]) if with_entropy else None


def hidden_gradient(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    loss_of: Callable[[Tensor, Tensor | None, slice], Tensor],
    *,
    with_entropy: bool = False,
) -> Tensor:
    """Send the gradient of a loss of log-probabilities into the head; return the hidden states'.

    hidden: (N, d). loss_of: takes the log-probabilities (n,) of a part of the targets, their
    entropies if asked, and which part; returns the part's contribution, (). The gradient returned,
    (N, d), is what `hidden.backward` wants.
    """
    leaf = hidden.detach()  # (N, d): the network's graph is not entered here, chunk by chunk
    gradient = torch.zeros_like(leaf)
    is_plain = head.weight is not None and head.weight.dtype == leaf.dtype == torch.float32
    is_plain = is_plain and not (with_entropy or torch.is_autocast_enabled(leaf.device.type))
    for part in head.chunks(len(targets)):
        if is_plain:
            gradient[part] = _gradient_by_hand(head, leaf[part], targets[part], loss_of, part)
            continue
        with torch.enable_grad():
            piece = leaf[part].requires_grad_()
            logits = head.logits(piece)
            entropy = _entropy(logits, head.forbidden) if with_entropy else None
            if with_entropy:
                logits = logits.clone()  # the next line overwrites them
            chosen = _ChosenLogProbability.apply(logits, targets[part], head.forbidden)
            loss_of(chosen, entropy, part).backward()
        assert piece.grad is not None
        gradient[part] = piece.grad
    return gradient


@torch.no_grad()
def _gradient_by_hand(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    loss_of: Callable[[Tensor, Tensor | None, slice], Tensor],
    part: slice,
) -> Tensor:
    """Return a chunk's gradient (n, d), adding the weight's to `weight.grad` in place.

    Autograd would make each chunk's (V, d) gradient anew before it adds it.
    """
    weight = head.weight
    assert weight is not None
    logits = head.logits(hidden)  # (n, V), of which no copy is made: all that follows is in place
    chosen = logits.gather(1, targets[:, None])  # (n, 1), before it is overwritten
    if head.forbidden:
        logits[:, head.forbidden] = -torch.inf
    highest = logits.amax(-1, keepdim=True)
    weights = logits.sub_(highest).exp_()  # (n, V), the softmax up to its sum
    total = weights.sum(-1, keepdim=True)  # (n, 1)
    leaf = (chosen - highest - total.log()).squeeze(-1).requires_grad_()
    with torch.enable_grad():
        loss_of(leaf, None, part).backward()
    assert leaf.grad is not None
    pull = leaf.grad.unsqueeze(-1) / head.temperature  # (n, 1), of each chosen log-probability
    # d log p(target) / d logits = onehot(target) - softmax
    gradient = weights.mul_(-pull / total).scatter_add_(1, targets[:, None], pull)
    if weight.requires_grad:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.addmm_(gradient.T, hidden)
    return gradient @ weight


def _entropy(logits: Tensor, forbidden: tuple[int, ...]) -> Tensor:
    """Return entropies (n,) that a gradient goes through."""
    if forbidden:
        allowed = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        allowed[list(forbidden)] = False
        logits = logits[:, allowed]
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


class _ChosenLogProbability(torch.autograd.Function):
    """log_softmax(logits)[target] in the memory of the logits, which it overwrites.

    A quarter faster on a CPU than cross entropy, which keeps two copies. The gradient of the logits
    is g (onehot - softmax).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, forbidden: tuple[int, ...]) -> Tensor:
        chosen = logits.gather(1, targets[:, None])
        if forbidden:
            logits[:, forbidden] = -torch.inf
        highest = logits.amax(-1, keepdim=True)
        weights = logits.sub_(highest).exp_()
        total = weights.sum(-1, keepdim=True)
        ctx.weights = weights  # not save_for_backward: nothing else holds them, backward takes them
        ctx.save_for_backward(total, targets)
        return (chosen - highest - total.log()).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total, targets = ctx.saved_tensors
        gradient = gradients[0].unsqueeze(-1)
        of_logits = ctx.weights.mul_(-gradient / total)
        del ctx.weights
        return of_logits.scatter_add_(1, targets[:, None], gradient), None, None
