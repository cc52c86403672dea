"""The beginning that all rows of a batch share, run through the model once instead of once a row.

A few-shot prompt is the same demonstrations before every item: 200 items share nine tenths of it.
Not a cache between batches: each batch finds what its own rows share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

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


def prefilled(module: PreTrainedModel, prefix: list[int], num_rows: int) -> Any:
    """Return the key-value cache of the prefix for each of the rows; None without a prefix.

    None also for a model that keeps no cache: the caller then runs whole rows.
    """
    if not prefix:
        return None
    ids = torch.tensor([prefix], device=module.device)
    output = module(input_ids=ids, use_cache=True, logits_to_keep=1)
    cache = output.get("past_key_values")
    if cache is not None:
        # Not batch_repeat_interleave, which layers of linear attention lack.
        cache.reorder_cache(torch.zeros(num_rows, dtype=torch.long, device=module.device))
    return cache
