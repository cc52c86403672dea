"""Scores token ids with a reward model that was loaded for it. The one file here that uses torch.

A score is the scalar head's output at the last token of a sequence, EOS included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel


@torch.no_grad()
def scores(
    module: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    *,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Return one score a sequence of token ids, in their order.

    module: a sequence classifier with one output, whose `pad_token_id` ends no sequence. Raises
    ValueError for a sequence that is empty or ends with padding (it would be read too early).
    """
    pad: int = module.config.get_text_config().pad_token_id  # pyright: ignore[reportUnknownMemberType]
    for number, sequence in enumerate(sequences):
        if not sequence or sequence[-1] == pad:
            raise ValueError(f"sequence {number} is empty or ends with the padding token {pad}")
    was_training = module.training
    module.eval()
    found = [0.0] * len(sequences)
    # Longest first: if a batch does not fit into memory, it is the first one.
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]), reverse=True)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = len(sequences[batch[0]])
        padded = [[*sequences[i], *[pad] * (width - len(sequences[i]))] for i in batch]
        ids = torch.tensor(padded, device=module.device)
        lengths = torch.tensor([len(sequences[i]) for i in batch], device=module.device)
        mask = (torch.arange(width, device=module.device) < lengths[:, None]).long()
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for i, score in zip(batch, logits.float().squeeze(-1).tolist(), strict=True):
            found[i] = score
        if on_progress is not None:
            on_progress(start + len(batch))
    module.train(was_training)
    return found
