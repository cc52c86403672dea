"""The loss on rows that training never sees, before the first step and after the last.

Measured by default wherever the data holds something out, whether or not training evaluates. Draws
no random numbers and leaves the trainer as it was: training is the same as without it. How pairs
are ranked is the subject of policy_metrics.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pipeline.data.encoding.examples import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.data.encoding.examples import EncodedExample

_BATCH_SIZE = 16
_MOST_LOGITS = 2**26  # of one forward pass; fewer rows go through together where more would come


@torch.no_grad()
def mean_label_loss(
    module: Any,
    examples: Sequence[EncodedExample],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> float | None:
    """Return the mean loss, in nats, of the tokens that are labels; None where there are none.

    module: a causal model, with or without an adapter; put into evaluation mode and back.
    """
    was_training = module.training
    module.eval()
    device = next(module.parameters()).device
    vocabulary: int = module.config.get_text_config().vocab_size
    total, number, done = 0.0, 0, 0
    try:
        for batch in _batches(examples, vocabulary):
            width = max(len(row.input_ids) for row in batch)
            ids = torch.tensor([_fill(row.input_ids, 0, width) for row in batch], device=device)
            mask = torch.tensor(
                [_fill([1] * len(row.input_ids), 0, width) for row in batch], device=device
            )
            labels = torch.tensor([_fill(row.labels, IGNORED, width) for row in batch])
            logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
            # A network may put positions of its own first. The last token predicts nothing here.
            logits = logits[:, -width:][:, :-1].float()  # (B, T - 1, V)
            targets = labels[:, 1:].to(device)  # (B, T - 1)
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
            )
            total += float(losses.double().sum())  # fp32 would lose small losses in large sums
            number += int((targets != IGNORED).sum())
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(examples))
    finally:
        module.train(was_training)
    return total / number if number else None


def _batches(examples: Sequence[EncodedExample], vocabulary: int) -> list[Sequence[EncodedExample]]:
    """Return rows that go through the model together, longest first."""
    ordered = sorted(examples, key=lambda row: len(row.input_ids), reverse=True)
    batches: list[Sequence[EncodedExample]] = []
    at = 0
    while at < len(ordered):
        fitting = _MOST_LOGITS // (len(ordered[at].input_ids) * vocabulary)
        size = max(1, min(_BATCH_SIZE, fitting))
        batches.append(ordered[at : at + size])
        at += size
    return batches


def _fill(values: list[int], filler: int, width: int) -> list[int]:
    return values + [filler] * (width - len(values))
