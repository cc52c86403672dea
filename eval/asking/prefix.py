"""The beginning that all rows of a batch share, run through the model once instead of once a row.

A few-shot prompt is the same demonstrations before every item: 200 items share nine tenths of it.
Not a cache between batches: each batch finds what its own rows share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

_WORTH_IT = 16  # tokens: below, one more forward pass costs what it saves


def shared_length(rows: Sequence[list[int]]) -> int:
    """Return how many first tokens all rows share, each keeping one; 0 where it is not worth it."""
    if len(rows) < 2:
        return 0
    longest = min(map(len, rows)) - 1
    pairs = zip(min(rows), max(rows), strict=False)  # what these two share, all between them share
    shared = next((place for place, (a, b) in enumerate(pairs) if a != b), longest)
    return min(shared, longest) if min(shared, longest) >= _WORTH_IT else 0


def prefill(
    module: PreTrainedModel, prefix: list[int], num_rows: int, *, paddings: Sequence[int] = ()
) -> Any:
    """Return the key-value cache of the prefix for each of the rows; None without a prefix.

    paddings: how many columns of padding stand before each row, none anywhere if not given. The
    cache of a row with n of them ends n tokens before the end of the prefix, which the caller runs
    again with the row's own: padding between two tokens of a row would count as distance where a
    model attends within a window or by a bias for distance.

    None also for a model that keeps no cache, or one that cannot be cut so: the caller then runs
    whole rows.
    """
    if not prefix or max(paddings, default=0) >= len(prefix):
        return None
    ids = torch.tensor([prefix], device=module.device)
    output = module(input_ids=ids, use_cache=True, logits_to_keep=1)
    cache = output.get("past_key_values")
    if cache is None:
        return None
    if any(paddings):
        return _moved_right(cache, paddings)
    # Not batch_repeat_interleave, which layers of linear attention lack.
    cache.reorder_cache(torch.zeros(num_rows, dtype=torch.long, device=module.device))
    return cache


def _moved_right(cache: Any, paddings: Sequence[int]) -> Any:
    """Return the cache of one row for rows that begin later; None if it does not hold all tokens.

    What stands in the columns of padding is never looked at, but must be finite.
    """
    layers: list[Any] = cache.layers if type(cache) is DynamicCache else []
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None  # a window, whose older tokens are gone, or a state
    for layer in layers:
        columns = torch.arange(layer.keys.shape[-2], device=layer.keys.device)
        padded = torch.tensor(paddings, device=layer.keys.device)[:, None]
        taken = (columns - padded).clamp(min=0)
        for name in ("keys", "values"):
            held = getattr(layer, name)[0]  # (heads, tokens, size)
            setattr(layer, name, held[:, taken].transpose(0, 1).contiguous())
    return cache
