"""TRL's fused loss head on a CPU: of the trained tokens alone, and each logit computed once.

The head's forward stays TRL's: what architectures do to logits, adapters, wrappers, metrics. On a
CPU two of its parts are others:

- It knows to score trained tokens alone, and scores every position where there is no Triton, since
  on some accelerators another number of tokens compiles the kernel anew; on a CPU nothing does.
- Its sums take 4,096 tokens by 32,768 words at a time, a dozen copies of that, and everything again
  in the backward pass. Here they take what a core's cache holds, and the probabilities are kept for
  the backward pass while they fit. Logits that are capped (Gemma 2) are left to TRL's sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from trl.trainer import utils as upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

_has_triton = upstream._use_triton  # pyright: ignore[reportPrivateImportUsage]
_sums_of_upstream = upstream._ChunkedLogProbFunction  # pyright: ignore[reportPrivateImportUsage]

_CHUNK_ELEMENTS = 2**19  # logits at a time, 2 MiB
_CHUNK_TOKENS = 64  # fewest at a time: the head's weights are read once for each chunk
_KEPT_ELEMENTS = 2**26  # probabilities that are kept, 256 MiB


def score_trained_tokens_alone() -> None:
    """Have the heads that TRL gives to models leave out what carries no loss, and sum as above."""
    upstream._use_triton = _is_compact  # pyright: ignore[reportPrivateImportUsage]
    upstream._ChunkedLogProbFunction = LogProbabilities  # pyright: ignore[reportPrivateImportUsage]


def _is_compact(device: torch.device) -> bool:
    return device.type == "cpu" or _has_triton(device)


class LogProbabilities:
    """What stands where TRL has its autograd function."""

    @staticmethod
    def apply(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None = None,
        scale: float = 1.0,
        outputs: tuple[str, ...] = (),
    ) -> tuple[Tensor | None, ...]:
        """Return (N,) each: log p of the targets, and in TRL's order what else it knows to compute.

        hidden: (N, d). weight: (V, d). bias: (V,). targets: (N,) token ids. outputs: names of the
        others that are wanted: `entropy`, `log_sum_sq_probs` (log of the sum of p^2),
        `mean_logits`, `is_top1` (the target is the likeliest token); the rest are None.
        """
        if hidden.device.type != "cpu" or softcap is not None:
            theirs = (temperature, chunk_size, softcap, scale, outputs)
            return _sums_of_upstream.apply(hidden, weight, bias, targets, *theirs)
        is_autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_autocast else hidden.dtype
        num_kept = _KEPT_ELEMENTS if torch.is_grad_enabled() else 0
        with torch.autocast("cpu", enabled=False):  # it would round the sums as well
            how = (scale / temperature, dtype, outputs, num_kept)
            return _OnCpu.apply(hidden, weight, bias, targets, *how)


class _OnCpu(torch.autograd.Function):
    """The same, a few tokens at a time.

    scale: of logits. dtype: that products are computed in. num_kept: exponentials that the backward
    pass finds again; it computes the others anew, to the same bits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        dtype: torch.dtype,
        outputs: tuple[str, ...],
        num_kept: int,
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        logits_of = _projection(weight, bias, scale, dtype)
        parts: list[dict[str, Tensor]] = []
        ctx.kept = []
        for part in _chunks(len(targets), len(weight)):
            scores, exponentials = _score(logits_of(hidden[part]), targets[part], outputs)
            parts.append(scores)
            if part.stop * len(weight) <= num_kept:
                ctx.kept.append(exponentials)
        scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        entropy = scores.get("entropy")
        sums = scores["highest"], scores["total"], entropy
        ctx.save_for_backward(hidden, weight, bias, targets, *sums)
        ctx.scale, ctx.dtype = scale, dtype
        others = [scores.get(name) for name in ("log_sum_sq_probs", "mean_logits", "is_top1")]
        ctx.mark_non_differentiable(*(each for each in others if each is not None))
        return scores["log_probs"], entropy, *others

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  torch passes all by position
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, highest, total, entropy = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_hidden = torch.empty_like(hidden) if wants_hidden else None
        with upstream.maybe_gather_lm_head_ctx(weight, bias):
            of_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
            of_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
            narrow = weight.to(ctx.dtype)
            logits_of = _projection(weight, bias, ctx.scale, ctx.dtype)
            for part in _chunks(len(targets), len(weight)):
                if ctx.kept:  # of the first tokens
                    exponentials = ctx.kept.pop(0)
                else:
                    exponentials = logits_of(hidden[part]).sub_(highest[part, None]).exp_()
                sums = total[part], None if entropy is None else entropy[part]
                pulls = [None if each is None else each[part] for each in gradients[:2]]
                of_logits = _gradient(exponentials, targets[part], sums, pulls).mul_(ctx.scale)
                if of_hidden is not None:
                    of_hidden[part] = of_logits.to(ctx.dtype) @ narrow
                if of_weight is not None:
                    of_weight.addmm_(of_logits.T, hidden[part].float())
                if of_bias is not None:
                    of_bias += of_logits.sum(0)
        of_weight = None if of_weight is None else of_weight.to(weight.dtype)
        of_bias = None if of_bias is None else of_bias.to(bias.dtype)
        return (of_hidden, of_weight, of_bias, *[None] * 5)


def _chunks(number: int, vocabulary: int) -> Iterator[slice]:
    """Yield parts of so many tokens, one at least."""
    size = max(_CHUNK_TOKENS, _CHUNK_ELEMENTS // vocabulary)
    yield from (slice(begin, min(begin + size, number)) for begin in range(0, number or 1, size))


def _projection(
    weight: Tensor, bias: Tensor | None, scale: float, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return what makes fp32 logits (n, V), which may be overwritten, of hidden states (n, d)."""
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)

    def logits_of(hidden: Tensor) -> Tensor:
        logits = functional.linear(hidden.to(dtype), weight, bias).float()
        return logits if scale == 1 else logits.mul_(scale)

    return logits_of


def _score(
    logits: Tensor, targets: Tensor, outputs: tuple[str, ...]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return scores by name, (n,) each, and exp(logit - highest), (n, V), for the backward pass.

    logits: (n, V), overwritten. The scores have `highest`, the logit, and `total`, the sum of the
    exponentials, as well.
    """
    highest, likeliest = logits.max(-1)  # the first of several, as argmax
    scores = {"highest": highest}
    if "is_top1" in outputs:
        scores["is_top1"] = likeliest == targets
    if "mean_logits" in outputs:
        scores["mean_logits"] = logits.mean(-1)
    shifted = logits.sub_(highest[:, None])
    chosen = shifted.gather(1, targets[:, None])[:, 0]
    exponentials = shifted.exp() if "entropy" in outputs else shifted.exp_()
    total = exponentials.sum(-1)
    log_total = total.log()
    scores |= {"total": total, "log_probs": chosen - log_total}
    if "entropy" in outputs:
        scores["entropy"] = log_total - torch.linalg.vecdot(exponentials, shifted) / total
    if "log_sum_sq_probs" in outputs:
        squares = torch.linalg.vecdot(exponentials, exponentials)
        scores["log_sum_sq_probs"] = squares.log() - 2 * log_total
    return scores, exponentials


def _gradient(
    exponentials: Tensor,
    targets: Tensor,
    sums: tuple[Tensor, Tensor | None],
    pulls: Sequence[Tensor | None],
) -> Tensor:
    """Return the gradient of scaled logits, (n, V): g (onehot - p) - h p (log p + H).

    exponentials: (n, V), overwritten. sums: their sum and the entropies H, (n,). pulls: g, the
    gradient of the targets' log-probabilities, and h, of the entropies, (n,) or None for zero.
    """
    total, entropy = sums
    of_logprob, of_entropy = pulls
    added = None
    if of_entropy is not None and entropy is not None:
        p = exponentials / total[:, None]
        added = (torch.special.xlogy(p, p) + p * entropy[:, None]) * of_entropy[:, None]
    if of_logprob is None:
        of_logprob = torch.zeros_like(total)
    gradient = exponentials.mul_((-of_logprob / total)[:, None])
    gradient.scatter_add_(1, targets[:, None], of_logprob[:, None])
    return gradient if added is None else gradient.sub_(added)
