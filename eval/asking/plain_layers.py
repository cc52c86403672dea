"""The arithmetic of a Llama-like decoder in fp32 on a CPU, as plain functions of tensors.

Half of a small model's pass is no arithmetic in transformers' code: modules that call modules,
masks, small operations, weights that MKL arranges anew at each product. Here they are arranged
once, and everything but attention is done for tokens in one line, whatever rows they are of: what
attention sees is the caller's subject (`token_step.py`: the next token of each row; `one_line.py`:
many tokens of rows).

Linear layers with adapters in them are called as the modules they are. Results are those of the
model's own forward pass up to rounding. `plain_decoder` says which models it is for; all others go
through their own forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
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


def plain_decoder(module: PreTrainedModel) -> PlainDecoder | None:
    """Return a module's arithmetic with its weights of now; None where only the module knows it."""
    return PlainDecoder(module) if _is_known(module) else None


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
    is_lasting = model.rotary_emb.rope_type not in _CHANGING_ROPE
    return is_plain and is_lasting and not has_hooks and _sees_all(module)


def _sees_all(module: PreTrainedModel) -> bool:
    """Return whether no layer attends within a window only."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=module.config).layers)


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


class PlainDecoder:
    """A decoder but for what its attention sees; made by `plain_decoder`."""

    def __init__(self, module: PreTrainedModel) -> None:
        model: Any = module.model
        packs = sum(each.numel() for each in module.parameters()) <= _LARGEST_PACKED
        self._model = model
        self._head = _joined([module.get_output_embeddings()], packs=packs)
        self.layers = [PlainLayer(layer, packs=packs) for layer in model.layers]

    def embedded(self, tokens: Tensor) -> Tensor:
        """Return the hidden states (N, d) that tokens (N,) begin with."""
        return self._model.embed_tokens(tokens)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles at positions (N,), (N, 1, half of a head's size)."""
        like: Any = self._model.norm.weight
        cosine, sine = self._model.rotary_emb(like, positions.unsqueeze(0))
        half = sine.shape[-1] // 2
        return cosine[0, :, None, :half], sine[0, :, None, :half]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (N, V) after the last layer's hidden states (N, d)."""
        return self._head(_normed(self._model.norm, hidden))


class PlainLayer:
    """A layer of the decoder but for what its attention sees.

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
        """Return scaled queries (N, heads, queries of one, size), keys and values (N, heads, size).

        hidden: (N, d). turn: cosine and sine of each token's angles, (N, 1, size / 2).
        """
        size, num_tokens = self._attention.head_dim, len(hidden)
        projected = self._projected(_normed(self._first_norm, hidden)).view(num_tokens, -1, size)
        num_keys = projected.shape[1] // (self._attention.num_key_value_groups + 2)
        both, values = projected[:, :-num_keys], projected[:, -num_keys:]
        if self._head_norms is not None:
            weights, epsilon = self._head_norms
            both = _scaled(both, weights, epsilon)
        half, (cosine, sine) = size // 2, turn
        first, second = both[..., :half], both[..., half:]
        turned = torch.empty_like(both, memory_format=torch.contiguous_format)
        torch.mul(first, cosine, out=turned[..., :half]).addcmul_(second, sine, value=-1)
        torch.mul(second, cosine, out=turned[..., half:]).addcmul_(first, sine)
        queries = turned[:, :-num_keys] * self._attention.scaling
        return queries.view(num_tokens, num_keys, -1, size), turned[:, -num_keys:], values

    def after(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Return the hidden state after a layer; seen: what its attention has seen."""
        hidden = hidden + self._mixed(seen.view(len(hidden), -1))
        gate, up = self._gate_and_up(_normed(self._second_norm, hidden)).chunk(2, dim=-1)
        return hidden + self._down(self._activation(gate).mul_(up))


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
    return _scaled(hidden, norm.weight, norm.variance_epsilon)


def _scaled(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return RMSNorm of x (..., d) in half of the operations of torch's."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.addcmul(x.new_tensor(epsilon), norm, norm, value=1 / x.shape[-1]).rsqrt_()
    return (x * scale).mul_(weight)


def _joined_norm(attention: Any) -> tuple[Tensor, float] | None:
    """Return the norms of queries and keys as one: weights (heads of both, size), and epsilon."""
    norms: list[Any] = _head_norms(attention)
    if not norms:
        return None
    counts = (attention.config.num_attention_heads, attention.config.num_key_value_heads)
    weights = [norm.weight.expand(count, -1) for norm, count in zip(norms, counts, strict=True)]
    return torch.cat(weights), norms[0].variance_epsilon
