"""The next token of each row through a Llama-like decoder: the arithmetic alone, on a CPU.

Half of a small model's step is no arithmetic in transformers' forward pass: modules that call
modules, masks, small operations, attention that waits for memory. Here keys and values lie without
gaps, which a processor reads 4 times as fast as with room for tokens to come between two rows;
new ones stand apart and are moved over some at a time. Heads of a group read their keys once, and
weights are arranged once.

Linear layers with adapters in them are called as the modules they are. Results are those of the
model's own forward pass up to rounding. Not for prompts: those are few passes, and large ones.
`token_step` says which models it is for; all others go through their own forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

# Layers of these are: norm, attention, sum; norm, MLP, sum; positions by rotation of halves.
_KNOWN = {
    f"transformers.models.{name.lower()}.modeling_{name.lower()}.{name}ForCausalLM"
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3")
}
_CHANGING_ROPE = ("dynamic", "longrope")  # frequencies depend on how long the rows are
_HAS_ONEDNN = torch.backends.mkldnn.is_available()
_LARGEST_PACKED = 2**24  # parameters: of larger models a second copy of the weights is too much
_MANY_ROWS = 64  # what packed weights are arranged for; fewer or more rows gain as much
_NEWEST = 16  # tokens that stand apart; with 8 or 32 a step takes the same time


def token_step(module: PreTrainedModel, cache: Any, mask: Tensor, room: int) -> TokenStep | None:
    """Return what runs the tokens after those in a cache; None where the module has to.

    mask: (B, T), 0 for padding, which is on the left. room: how many positions there may be.
    """
    if not (_is_known(module) and holds_all(cache)):
        return None
    return TokenStep(module, cache, mask, room)


def _is_known(module: PreTrainedModel) -> bool:
    """Return whether a module is one of the known ones, as it was made, in fp32 on a CPU."""
    kind = type(module)
    if f"{kind.__module__}.{kind.__qualname__}" not in _KNOWN:
        return False
    if module.training or torch.is_autocast_enabled("cpu"):
        return False
    model: Any = module.model
    is_plain = all(each.dtype == torch.float32 and each.is_cpu for each in module.parameters())
    has_hooks = any(map(_is_watched, _parts_passed_over(module)))
    return is_plain and not has_hooks and model.rotary_emb.rope_type not in _CHANGING_ROPE


def _parts_passed_over(module: Any) -> Iterator[nn.Module]:
    """Yield the modules that are not called, but whose work is done here."""
    model = module.model
    yield from (module, model, model.norm, model.rotary_emb)
    for layer in model.layers:
        attention = layer.self_attn
        yield from (layer, attention, layer.mlp)
        yield from (layer.input_layernorm, layer.post_attention_layernorm)
        yield from _head_norms(attention)


def _head_norms(attention: Any) -> list[nn.Module]:
    """Return the norms of queries and keys (Qwen3), or none."""
    parts: dict[str, nn.Module] = attention._modules
    return [parts[name] for name in ("q_norm", "k_norm") if name in parts]


def _is_watched(part: nn.Module) -> bool:
    """Return whether something else is called with a module, or instead of it."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def holds_all(cache: Any) -> bool:
    """Return whether a cache has keys and values of all tokens: no windows, no states."""
    layers = cache.layers if type(cache) is DynamicCache else []
    return bool(layers) and all(
        isinstance(layer, DynamicLayer) and layer.keys is not None and not layer.is_sliding
        for layer in layers
    )


class TokenStep:
    """A decoder with what it has read; made by `token_step`."""

    def __init__(self, module: PreTrainedModel, cache: Any, mask: Tensor, room: int) -> None:
        model: Any = module.model
        self._model = model
        self._held = [_Held(layer.keys, layer.values) for layer in cache.layers]
        padding = int((mask == 0).sum(-1).max())
        self._bias: Tensor | None = None  # (B, 1, most padding of a row), added to scores
        if padding:
            hidden = mask[:, None, :padding] == 0
            self._bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
        # (positions, half of a head's size)
        cosine, sine = model.rotary_emb(model.norm.weight, torch.arange(room).unsqueeze(0))
        half = sine.shape[-1] // 2
        self._cosine, self._sine = cosine[0, :, :half], sine[0, :, :half]
        packs = sum(each.numel() for each in module.parameters()) <= _LARGEST_PACKED
        self._head = _joined([module.get_output_embeddings()], packs=packs)
        self._layers = [_Layer(layer, packs=packs) for layer in model.layers]

    def keep(self, going_on: Tensor, moved: Tensor) -> None:
        """Keep these rows; going_on: (b,) places before; moved: places after, where they differ."""
        for held in self._held:
            held.keep(going_on, moved)
        if self._bias is not None:
            self._bias = self._bias[going_on]

    def run(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the logits (B, V) after one more token (B,) of each row, at its position (B,)."""
        hidden = self._model.embed_tokens(tokens)
        turn = self._cosine[positions].unsqueeze(1), self._sine[positions].unsqueeze(1)
        for layer, held in zip(self._layers, self._held, strict=True):
            queries, keys, values = layer.asked(hidden, turn)
            held.append(keys, values)
            hidden = layer.after(hidden, held.attended(queries, self._bias))
        return self._head(_normed(self._model.norm, hidden))


class _Layer:
    """A layer of the decoder but for what it has read.

    packs: whether to arrange the weights of plain linear layers anew.
    """

    def __init__(self, layer: Any, *, packs: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._attention = attention
        self._first_norm, self._second_norm = layer.input_layernorm, layer.post_attention_layernorm
        self._head_norms = _joined_norm(attention)
        self._projected = _joined(
            [attention.q_proj, attention.k_proj, attention.v_proj], packs=packs
        )
        self._mixed = _joined([attention.o_proj], packs=packs)
        self._gate_and_up = _joined([mlp.gate_proj, mlp.up_proj], packs=packs)
        self._down, self._activation = _joined([mlp.down_proj], packs=packs), mlp.act_fn

    def asked(self, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled queries, (B * heads, queries of one, size), keys and values.

        turn: cosine and sine of each row's angles, (B, 1, size / 2).
        """
        size, num_rows = self._attention.head_dim, len(hidden)
        projected = self._projected(_normed(self._first_norm, hidden)).view(num_rows, -1, size)
        num_keys = projected.shape[1] // (self._attention.num_key_value_groups + 2)
        both, values = projected[:, :-num_keys], projected[:, -num_keys:]
        if self._head_norms is not None:
            weights, epsilon = self._head_norms
            both = functional.rms_norm(both, (size,), None, epsilon) * weights
        half, (cosine, sine) = size // 2, turn
        first, second = both[..., :half], both[..., half:]
        turned = torch.empty_like(both, memory_format=torch.contiguous_format)
        torch.mul(first, cosine, out=turned[..., :half]).addcmul_(second, sine, value=-1)
        torch.mul(second, cosine, out=turned[..., half:]).addcmul_(first, sine)
        queries = turned[:, :-num_keys] * self._attention.scaling
        return queries.view(num_rows * num_keys, -1, size), turned[:, -num_keys:], values

    def after(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Return the hidden state after a layer; seen: what its attention has seen."""
        hidden = hidden + self._mixed(seen.view(len(hidden), -1))
        gate, up = self._gate_and_up(_normed(self._second_norm, hidden)).chunk(2, dim=-1)
        return hidden + self._down(self._activation(gate) * up)


class _Held:
    """Keys and values of a layer: old ones without gaps, new ones in a small room of their own.

    keys, values: (B, heads, T, size).
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._old = [keys.contiguous(), values.contiguous()]
        shape = (*keys.shape[:2], _NEWEST, keys.shape[-1])
        self._new = [keys.new_empty(shape), values.new_empty(shape)]
        self._num_new = 0

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Append a token of each row, (B, heads, size)."""
        if self._num_new == _NEWEST:
            pairs = zip(self._old, self._new, strict=True)
            self._old = [torch.cat(pair, dim=-2) for pair in pairs]
            self._num_new = 0
        for room, token in zip(self._new, (keys, values), strict=True):
            room[:, :, self._num_new] = token
        self._num_new += 1

    def attended(self, queries: Tensor, bias: Tensor | None) -> Tensor:
        """Return the values that scaled queries (B * heads, queries of one, size) see, same shape.

        bias: (B, 1, columns) for the first columns.
        """
        old_keys, old_values = (held.flatten(0, 1) for held in self._old)
        new_keys, new_values = (held.flatten(0, 1)[:, : self._num_new] for held in self._new)
        old_scores = torch.bmm(queries, old_keys.transpose(1, 2))
        if bias is not None:
            rows = old_scores.view(len(bias), -1, old_scores.shape[-1])
            rows[..., : bias.shape[-1]].add_(bias)
        new_scores = torch.bmm(queries, new_keys.transpose(1, 2))
        shares = torch.cat([old_scores, new_scores], dim=-1).softmax(-1)
        num_old = old_keys.shape[1]
        seen = torch.bmm(shares[..., :num_old], old_values)
        return seen.baddbmm_(shares[..., num_old:], new_values)

    def keep(self, going_on: Tensor, moved: Tensor) -> None:
        """Keep these rows, as `TokenStep.keep` says."""
        sources, number = going_on[moved], len(going_on)
        for parts in (self._old, self._new):
            for place, held in enumerate(parts):
                if len(moved):
                    held.index_copy_(0, moved, held.index_select(0, sources))
                parts[place] = held[:number]


def _joined(layers: Sequence[Any], *, packs: bool) -> Callable[[Tensor], Tensor]:
    """Return linear layers of one input as one, whose results stand side by side.

    MKL arranges weights anew at every product: a third of the time of one of 64 rows and 8,192
    words, three quarters with 8 rows. oneDNN takes them as arranged before.
    """
    plain = [each for each in layers if type(each) is nn.Linear and not _is_watched(each)]
    have_bias = {each.bias is not None for each in plain}
    if packs and len(plain) == len(layers) and len(have_bias) == 1 and _HAS_ONEDNN:
        weights = torch.cat([each.weight.detach() for each in plain])
        bias = torch.cat([each.bias.detach() for each in plain]) if True in have_bias else None
        packed = torch.ops.mkldnn._reorder_linear_weight(weights, _MANY_ROWS)
        run: Any = torch.ops.mkldnn._linear_pointwise
        return lambda hidden: run(hidden, packed, bias, "none", [], "")
    if len(layers) == 1:
        return layers[0]
    return lambda hidden: torch.cat([layer(hidden) for layer in layers], dim=-1)


def _normed(norm: Any, hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def _joined_norm(attention: Any) -> tuple[Tensor, float] | None:
    """Return the norms of queries and keys as one: weights (heads of both, size), and epsilon."""
    norms: list[Any] = _head_norms(attention)
    if not norms:
        return None
    counts = (attention.config.num_attention_heads, attention.config.num_key_value_heads)
    weights = [norm.weight.expand(count, -1) for norm, count in zip(norms, counts, strict=True)]
    return torch.cat(weights), norms[0].variance_epsilon
