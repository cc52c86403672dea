"""The next token of each row through a decoder of plain layers, on a CPU.

Attention waits for memory here: keys and values lie without gaps, which a processor reads 4 times
as fast as with room for tokens to come between two rows; new ones stand apart and are moved over
some at a time. Heads of a group read their keys once. Prompts: `one_line.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

    from eval.asking.plain_layers import PlainDecoder

_NEWEST = 16  # tokens that stand apart; with 8 or 32 a step takes the same time


def holds_all(cache: Any) -> bool:
    """Return whether a cache has keys and values of all tokens: no windows, no states."""
    layers = cache.layers if type(cache) is DynamicCache else []
    return bool(layers) and all(
        isinstance(layer, DynamicLayer) and layer.keys is not None and not layer.is_sliding
        for layer in layers
    )


class TokenStep:
    """A decoder with what it has read.

    cache: of the tokens so far, which `holds_all` of them. mask: (B, T), 0 for padding, which is on
    the left. room: how many positions there may be.
    """

    def __init__(self, decoder: PlainDecoder, cache: Any, mask: Tensor, room: int) -> None:
        self._decoder = decoder
        self._held = [_Held(layer.keys, layer.values) for layer in cache.layers]
        padding = int((mask == 0).sum(-1).max())
        self._bias: Tensor | None = None  # (B, 1, most padding of a row), added to scores
        if padding:
            hidden = mask[:, None, :padding] == 0
            self._bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
        self._cosine, self._sine = decoder.angles(torch.arange(room))

    def keep(self, going_on: Tensor, moved: Tensor) -> None:
        """Keep these rows; going_on: (b,) places before; moved: places after, where they differ."""
        for held in self._held:
            held.keep(going_on, moved)
        if self._bias is not None:
            self._bias = self._bias[going_on]

    def run(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the logits (B, V) after one more token (B,) of each row, at its position (B,)."""
        hidden = self._decoder.embedded(tokens)
        turn = self._cosine[positions], self._sine[positions]
        for layer, held in zip(self._decoder.layers, self._held, strict=True):
            queries, keys, values = layer.asked(hidden, turn)
            held.append(keys, values)
            hidden = layer.after(hidden, held.attended(queries.flatten(0, 1), self._bias))
        return self._decoder.logits(hidden)


class _Held:
    """Keys and values of a layer: old ones without gaps, new ones in a small room of their own.

    keys, values: (B, heads, T, size). The room is (tokens, B, heads, size): all that it holds so
    far lies together.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._old = [keys.contiguous(), values.contiguous()]
        shape = (_NEWEST, *keys.shape[:2], keys.shape[-1])
        self._new = [keys.new_empty(shape), values.new_empty(shape)]
        self._num_new = 0

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Append a token of each row, (B, heads, size)."""
        if self._num_new == _NEWEST:
            pairs = zip(self._old, self._new, strict=True)
            self._old = [torch.cat([old, new.permute(1, 2, 0, 3)], dim=-2) for old, new in pairs]
            self._num_new = 0
        for room, token in zip(self._new, (keys, values), strict=True):
            room[self._num_new] = token
        self._num_new += 1

    def attended(self, queries: Tensor, bias: Tensor | None) -> Tensor:
        """Return the values that scaled queries (B * heads, queries of one, size) see, same shape.

        bias: (B, 1, columns) for the first columns.
        """
        old_keys, old_values = (held.flatten(0, 1) for held in self._old)
        new_keys, new_values = (held[: self._num_new].flatten(1, 2) for held in self._new)
        old_scores = torch.bmm(queries, old_keys.transpose(1, 2))
        if bias is not None:
            rows = old_scores.view(len(bias), -1, old_scores.shape[-1])
            rows[..., : bias.shape[-1]].add_(bias)
        new_scores = torch.bmm(queries, new_keys.permute(1, 2, 0))
        shares = torch.cat([old_scores, new_scores], dim=-1).softmax(-1)
        num_old = old_keys.shape[1]
        seen = torch.bmm(shares[..., :num_old], old_values)
        return seen.baddbmm_(shares[..., num_old:], new_values.transpose(0, 1))

    def keep(self, going_on: Tensor, moved: Tensor) -> None:
        """Keep these rows, as `TokenStep.keep` says."""
        sources, number = going_on[moved], len(going_on)
        for dimension, parts in enumerate((self._old, self._new)):
            for place, held in enumerate(parts):
                if len(moved):
                    held.index_copy_(dimension, moved, held.index_select(dimension, sources))
                parts[place] = held.narrow(dimension, 0, number)
