"""A decoder layer of rows laid end to end as one autograd function, on a CPU.

Layers of Llama and Qwen3 in which every weight is a plain fp32 one and no adapter, hook or dropout
is in the way, in fp32 or under bf16 autocast; others keep upstream's forward, whose hundred
operations and their gradients cost a small model as much as its attention does. The gradient is a
formula: what it needs is kept, probabilities of attention as well, and nothing is computed twice.
Of the last layer, only what is read of each row is computed: keys and values of all tokens, the
rest from the first one read on.

Under autocast the products of weights are bf16 ones, and all else is fp32, attention too: rows are
short, and rounding and unrounding costs an elementwise operation more than it saves.

Which rows there are: end_to_end.py, where each network is held against upstream's forward first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.activations import SiLUActivation

from pipeline.models.frozen import FrozenLinear
from pipeline.models.fused import normalise, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_KINDS = {
    "transformers.models.llama.modeling_llama.LlamaDecoderLayer": False,
    "transformers.models.qwen3.modeling_qwen3.Qwen3DecoderLayer": True,  # norms of queries and keys
}
_LONGEST = 512  # tokens of a row: its probabilities are kept, as many as its square
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _Weights(NamedTuple):
    """Of a layer that is d wide, with H heads of size D, K of keys, and an inner width F."""

    before_attention: Tensor  # (d,)
    q: Tensor  # (H D, d)
    k: Tensor  # (K D, d)
    v: Tensor
    o: Tensor  # (d, H D)
    before_inner: Tensor  # (d,)
    gate: Tensor  # (F, d)
    up: Tensor
    down: Tensor  # (d, F)
    of_q: Tensor | None = None  # (D,), of the norms of queries and keys
    of_k: Tensor | None = None


@dataclass(frozen=True)
class _Shape:
    """What a layer is told beside tensors.

    rows: places of their tokens. read: of those whose output is read, (M,), the last ones of each
    row; None: all. read_rows: of each row's, among these. dtype: of factors of weights' products.
    head_size: D. groups: heads that look at the same keys. scale: of attention's scores. epsilons:
    of the norms before attention and before the inner part, and of heads. has_backward: whether one
    may follow.
    """

    rows: Sequence[slice]
    read: Tensor | None
    read_rows: Sequence[slice]
    dtype: torch.dtype
    head_size: int
    groups: int
    scale: float
    epsilons: tuple[float, float, float]
    has_backward: bool

    def of_read(self, x: Tensor) -> Tensor:
        """Return what x (N, ...) has of the tokens that are read, (M, ...)."""
        return x if self.read is None else x[self.read]

    def of_all(self, x: Tensor, number: int) -> Tensor:
        """Return (N, d) of x (M, d), 0 at what is not read."""
        if self.read is None:
            return x
        return x.new_zeros(number, x.shape[-1]).index_copy_(0, self.read, x)


@dataclass(frozen=True)
class _Gradients:
    """wanted: names of weights that are trained. by_name: what was found of them."""

    wanted: set[str]
    by_name: dict[str, Tensor]

    def of_product(self, name: str, gradient: Tensor, x: Tensor) -> None:
        """Find a matrix's gradient, by that of x W^T, both as factors."""
        if name in self.wanted:
            self.by_name[name] = _product(gradient.t(), x)


def layer_on_rows(
    layer: Any, lengths: Sequence[int], firsts: Sequence[int] | None = None
) -> Callable[..., Tensor] | None:
    """Return what stands in place of a layer's forward for these rows; None: it keeps its own.

    firsts: of each row, the first token whose output is read; those before it become 0.
    """
    name = f"{type(layer).__module__}.{type(layer).__qualname__}"
    if name not in _KINDS or "forward" in vars(layer) or max(lengths) > _LONGEST:
        return None
    attention, inner = layer.self_attn, layer.mlp
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    if _KINDS[name]:
        norms += [attention.q_norm, attention.k_norm]
    projections = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    projections += [inner.gate_proj, inner.up_proj, inner.down_proj]
    if (
        type(inner.act_fn) not in (nn.SiLU, SiLUActivation)
        or (layer.training and attention.attention_dropout > 0)
        or getattr(attention, "sliding_window", None) is not None
        or any(getattr(part, hooks) for part in layer.modules() for hooks in _HOOKS)
    ):
        return None
    q, k, v, o, gate, up, down = (each.weight for each in projections)
    first, second, *of_heads = (each.weight for each in norms)
    weights = _Weights(first, q, k, v, o, second, gate, up, down, *of_heads)
    dtypes = _precisions(projections)
    if not dtypes or not all(_is_plain(each.weight) for each in norms):
        return None
    epsilons = [each.variance_epsilon for each in norms]
    rows = _slices(lengths)
    read, read_rows = None, rows
    if firsts is not None and any(firsts):
        begins = [row.start + first for row, first in zip(rows, firsts, strict=True)]
        places = [torch.arange(b, row.stop) for b, row in zip(begins, rows, strict=True)]
        read, read_rows = torch.cat(places), _slices([len(each) for each in places])

    def forward(hidden_states: Tensor, *args: Any, position_embeddings: Any, **how: Any) -> Tensor:
        cos, sin = position_embeddings
        is_autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_autocast else torch.float32
        is_taken = _is_plain(hidden_states) and dtype in dtypes
        if not is_taken or torch.compiler.is_compiling():
            given = {"position_embeddings": position_embeddings, **how}
            return type(layer).forward(layer, hidden_states, *args, **given)
        shape = _Shape(
            rows,
            read,
            read_rows,
            dtype,
            attention.head_dim,
            attention.num_key_value_groups,
            attention.scaling,
            (epsilons[0], epsilons[1], epsilons[-1]),
            torch.is_grad_enabled(),
        )
        with torch.autocast("cpu", enabled=False):
            return _Layer.apply(hidden_states[0], cos[0], sin[0], shape, *weights)[None]

    return forward


def _slices(lengths: Sequence[int]) -> list[slice]:
    """Return where parts of these lengths lie, one after another."""
    ends = accumulate(lengths)
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _precisions(projections: Sequence[Any]) -> Collection[torch.dtype]:
    """Return the precisions that products may have: none of projections with more to them.

    Those that are kept in bf16 are multiplied by in bf16, under autocast.
    """
    kinds = {type(each) for each in projections}
    if any(each.bias is not None for each in projections):
        return ()
    if kinds == {nn.Linear} and all(_is_plain(each.weight) for each in projections):
        return torch.float32, torch.bfloat16
    are_kept = kinds == {FrozenLinear} and not any(
        each.earlier_down is not None or each.weight.dtype != torch.bfloat16 for each in projections
    )
    return (torch.bfloat16,) if are_kept else ()


def _is_plain(tensor: Tensor) -> bool:
    kinds = (Tensor, nn.Parameter)
    return type(tensor) in kinds and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


class _Layer(torch.autograd.Function):
    """x + attention(norm(x)), and to that its inner part: hidden states (N, d) to (N, d).

    M of the N tokens are read; of the others the result is 0.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, shape: _Shape, *weights: Tensor | None
    ) -> Tensor:
        w = _as_factors(weights, shape.dtype)
        angles = cos[:, None], sin[:, None]
        attended, of_attention = _attend(x, w, shape, angles)
        y, of_inner = _inner(attended, w, shape)
        if shape.has_backward:
            ctx.save_for_backward(x, cos, sin, *weights)
            ctx.kept = of_attention, of_inner
            ctx.shape = shape
        return shape.of_all(y, len(x))

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  torch passes all by position
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, cos, sin, *weights = ctx.saved_tensors
        w = _as_factors(weights, ctx.shape.dtype)
        names = zip(_Weights._fields, ctx.needs_input_grad[4:], strict=True)
        found = _Gradients({name for name, is_wanted in names if is_wanted}, {})
        of_attention, of_inner = ctx.kept
        angles = cos[:, None], sin[:, None]
        pull = _inner_backward(ctx.shape.of_read(gradient), w, found, of_inner)
        of_x = _attend_backward(pull, x, w, found, of_attention, ctx.shape, angles)
        return (of_x, None, None, None, *(found.by_name.get(name) for name in _Weights._fields))


def _as_factors(weights: Sequence[Tensor | None], dtype: torch.dtype) -> _Weights:
    """Return the weights, matrices in the precision of products."""
    narrow = [w.to(dtype) if w is not None and w.ndim > 1 else w for w in weights]
    return _Weights(*narrow)  # pyright: ignore[reportArgumentType]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b in fp32, of factors."""
    return (a @ b).float()


def _sum(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return x + a b in fp32, of factors."""
    return torch.addmm(x, a, b) if a.dtype == x.dtype else _product(a, b).add_(x)


def _add_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return x + a b in fp32, of factors. x is overwritten."""
    return x.addmm_(a, b) if a.dtype == x.dtype else x.add_(_product(a, b))


def _normed_backward(
    gradient: Tensor, x: Tensor, scale: Tensor, weight: Tensor, name: str, found: _Gradients
) -> Tensor:
    """Return the gradient of x; find that of the weight. The gradient given is overwritten."""
    products = (gradient * x).reshape(-1, x.shape[-1])
    if name in found.wanted:
        found.by_name[name] = products.t() @ scale.reshape(-1)
    # A copy, since weights that a file was mapped for lie anywhere, and MKL's sums depend on that.
    pull = (products @ weight.clone()).view_as(scale).mul_(scale.pow(3)).div_(-x.shape[-1])
    return gradient.mul_(scale).mul_(weight).addcmul_(x, pull)


def _turned_back(gradient: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = gradient.shape[-1] // 2
    of_x = gradient * cos
    of_x[..., :half].addcmul_(gradient[..., half:], sin[..., half:])
    of_x[..., half:].addcmul_(gradient[..., :half], sin[..., :half], value=-1)
    return of_x


def _mask(length: int, read: int, groups: int) -> Tensor:
    """Return (1, G R, L), -infinity where a token comes after the one that looks, of the last R."""
    mask = _square_mask(1 << (length - 1).bit_length())[:, length - read : length, :length]
    return mask.expand(groups, -1, -1).reshape(1, groups * read, length)


def _by_keys(x: Tensor, groups: int) -> Tensor:
    """Return (K, G, R, D) of (R, K G, D): the heads that look at the same keys side by side."""
    return x.unflatten(1, (-1, groups)).permute(1, 2, 0, 3)


@cache
def _square_mask(length: int) -> Tensor:
    return torch.full((1, length, length), -torch.inf).triu_(1)


def _attend(
    x: Tensor, w: _Weights, shape: _Shape, angles: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Any, ...]]:
    """Return x + attention, (M, d), and what the backward pass needs."""
    normed, scale = normalise(x, w.before_attention, shape.epsilons[0])
    normed = normed.to(shape.dtype)
    looking = shape.of_read(normed)
    products = ((looking, w.q), (normed, w.k), (normed, w.v))
    q, k, v = (_product(x, of.t()).view(len(x), -1, shape.head_size) for x, of in products)
    of_heads: tuple[Any, ...] = ()
    if w.of_q is not None and w.of_k is not None:
        (q_normed, q_scale), (k_normed, k_scale) = (
            normalise(each, weight, shape.epsilons[2])
            for each, weight in ((q, w.of_q), (k, w.of_k))
        )
        of_heads = q, q_scale, k, k_scale
        q, k = q_normed, k_normed
    q, k = turn(q, *map(shape.of_read, angles)), turn(k, *angles)
    found = torch.empty_like(q)
    all_probabilities: list[Tensor] = []
    for row, read in zip(shape.rows, shape.read_rows, strict=True):
        queries = _by_keys(q[read], shape.groups).flatten(1, 2)
        keys, values = (each[row].transpose(0, 1) for each in (k, v))
        mask = _mask(keys.shape[1], read.stop - read.start, shape.groups)
        scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=shape.scale)
        probabilities = scores.softmax(-1)
        heads = _by_keys(found[read], shape.groups)
        heads.copy_((probabilities @ values).view_as(heads))
        all_probabilities.append(probabilities)
    found = found.view(len(looking), -1).to(shape.dtype)
    kept = normed, looking, scale, of_heads, q, k, v, all_probabilities, found
    return _sum(shape.of_read(x), found, w.o.t()), kept


def _attend_backward(
    gradient: Tensor,
    x: Tensor,
    w: _Weights,
    gradients: _Gradients,
    kept: tuple[Any, ...],
    shape: _Shape,
    angles: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the gradient of x, (N, d), of that of x + attention, (M, d); find the weights'."""
    normed, looking, scale, of_heads, q, k, v, all_probabilities, found = kept
    factor = gradient.to(shape.dtype)
    gradients.of_product("o", factor, found)
    of_found = _product(factor, w.o).view_as(q)
    of_q, of_k, of_v = (torch.empty_like(each) for each in (q, k, v))
    for row, read, p in zip(shape.rows, shape.read_rows, all_probabilities, strict=True):
        queries, pull = (_by_keys(each[read], shape.groups).flatten(1, 2) for each in (q, of_found))
        keys, values = (each[row].transpose(0, 1) for each in (k, v))
        of_v[row].transpose(0, 1).copy_(p.transpose(1, 2) @ pull)
        of_p = pull @ values.transpose(1, 2)
        # Of the softmax: p (of_p - sum(p of_p)).
        of_p.sub_(torch.linalg.vecdot(of_p, p)[..., None]).mul_(p).mul_(shape.scale)
        heads = _by_keys(of_q[read], shape.groups)
        heads.copy_((of_p @ keys).view_as(heads))
        of_k[row].transpose(0, 1).copy_(of_p.transpose(1, 2) @ queries)
    of_q = _turned_back(of_q, *map(shape.of_read, angles))
    of_k = _turned_back(of_k, *angles)
    if of_heads:
        q, q_scale, k, k_scale = of_heads
        assert w.of_q is not None
        assert w.of_k is not None
        of_q = _normed_backward(of_q, q, q_scale, w.of_q, "of_q", gradients)
        of_k = _normed_backward(of_k, k, k_scale, w.of_k, "of_k", gradients)
    of_q, of_k, of_v = (each.flatten(1).to(shape.dtype) for each in (of_q, of_k, of_v))
    gradients.of_product("q", of_q, looking)
    gradients.of_product("k", of_k, normed)
    gradients.of_product("v", of_v, normed)
    of_normed = shape.of_all(_product(of_q, w.q), len(x))
    of_normed = _add_product(_add_product(of_normed, of_k, w.k), of_v, w.v)
    of_x = _normed_backward(of_normed, x, scale, w.before_attention, "before_attention", gradients)
    if shape.read is None:
        return of_x.add_(gradient)
    return of_x.index_add_(0, shape.read, gradient)


def _inner(x: Tensor, w: _Weights, shape: _Shape) -> tuple[Tensor, tuple[Any, ...]]:
    """Return x + its inner part, (N, d), and what the backward pass needs."""
    normed, scale = normalise(x, w.before_inner, shape.epsilons[1])
    normed = normed.to(shape.dtype)
    gate, up = _product(normed, w.gate.t()), _product(normed, w.up.t())
    opened = functional.silu(gate)
    y = _sum(x, (opened * up).to(shape.dtype), w.down.t())
    return y, (x, normed, scale, gate, up, opened)


def _inner_backward(
    gradient: Tensor, w: _Weights, gradients: _Gradients, kept: tuple[Any, ...]
) -> Tensor:
    """Return the gradient of x, (N, d), of that of x + its inner part; find the weights'."""
    x, normed, scale, gate, up, opened = kept
    dtype = normed.dtype
    factor = gradient.to(dtype)
    gradients.of_product("down", factor, (opened * up).to(dtype))
    of_product = _product(factor, w.down)
    of_up = (of_product * opened).to(dtype)
    of_gate = torch.ops.aten.silu_backward(of_product.mul_(up), gate).to(dtype)
    gradients.of_product("gate", of_gate, normed)
    gradients.of_product("up", of_up, normed)
    of_normed = _add_product(_product(of_gate, w.gate), of_up, w.up)
    of_x = _normed_backward(of_normed, x, scale, w.before_inner, "before_inner", gradients)
    return of_x.add_(gradient)
