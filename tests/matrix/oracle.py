"""What is right: one row at a time through plain transformers and PEFT, no padding and no cache.

Imports nothing of ours, on purpose.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

Row = tuple[list[int], list[int]]  # what is read, what is predicted after it


def language_model(folder: Path, base: Path | None = None) -> Any:
    """Load a model, or an adapter on its base, as plain transformers and PEFT do."""
    return _loaded(AutoModelForCausalLM, folder, base)


def reward_model(folder: Path, base: Path | None = None) -> Any:
    """Load a sequence classifier with one output, or an adapter with its head on the base."""
    return _loaded(AutoModelForSequenceClassification, folder, base, num_labels=1, pad_token_id=0)


def _loaded(auto: Any, folder: Path, base: Path | None, **more: Any) -> Any:
    if base is None:
        return auto.from_pretrained(folder).eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(auto.from_pretrained(base, **more), str(folder)).eval()


@torch.no_grad()
def logits(model: Any, ids: Sequence[int]) -> Tensor:
    """Return a language model's logits, (T, V), or a reward model's score, (1,), of one row."""
    return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()


def logprobs(model: Any, row: Row) -> Tensor:
    """Return log p of each token that is predicted, (n,)."""
    given, predicted = row
    found = logits(model, [*given, *predicted])[len(given) - 1 : -1].log_softmax(-1)
    return found.gather(-1, torch.tensor(predicted)[:, None])[:, 0]


def mean_loss(model: Any, rows: Sequence[Row]) -> float:
    """Return the mean negative log-probability over all predicted tokens of all rows."""
    return -float(torch.cat([logprobs(model, row).double() for row in rows]).mean())


def mean_losses_of_parts(model: Any, rows: Sequence[Row]) -> Iterator[float]:
    """Yield the mean loss of every set of rows that a step may have been made of."""
    each = [logprobs(model, row).double() for row in rows]
    for count in range(1, len(rows) + 1):
        for chosen in combinations(each, count):
            yield -float(torch.cat(chosen).mean())


def preference_loss(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Return the mean of -log sigmoid(score of chosen - score of rejected)."""
    gaps = [logits(model, chosen) - logits(model, rejected) for chosen, rejected in pairs]
    return -float(torch.nn.functional.logsigmoid(torch.cat(gaps)).mean())


def greedy(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """Return the likeliest continuation, each token from a whole pass over all before it."""
    written = list(prompt)
    for _ in range(count):
        written.append(int(logits(model, written)[-1].argmax()))
    return written[len(prompt) :]
