"""Text that a model reads and is measured on: whole documents, responses after what they answer.

Nothing is generated. How rows of data become passages is for whoever knows their columns and chat
templates; here they are token ids. Imports no torch until a model reads.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from eval.results import BITS_PER_BYTE, RANKING, ItemResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.asking.question import Progress
    from eval.model import Form, LanguageModel

_EXCERPT = 200  # characters of a text that its result repeats


@dataclass(frozen=True)
class Passage:
    """A text that is measured, after a context that is only read.

    item: what it is known by, the same for every model. context, text: as a person reads them.
    context_ids, ids: as the model does; without BOS and context the first of `ids` is charged as
        `vocabulary_bits` says. form: whether a chat template was applied. group: for a breakdown.
    is_rival: the rejected response of a pair, whose chosen one is the passage before it.
    """

    item: str
    context: str
    text: str
    context_ids: list[int]
    ids: list[int]
    form: Form = "document"
    group: str = ""
    is_rival: bool = False


def document(model: LanguageModel, index: int, text: str) -> Passage:
    """Return a document as a passage without context."""
    ids = model.encode_document(text)
    start = len(model.encode_document(""))
    return Passage(passage_id(str(index), text), "", text, ids[:start], ids[start:])


def passage_id(place: str, text: str) -> str:
    """Return what a passage is known by: its place among others, and a hash of what it says."""
    return f"{place}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def read(
    model: LanguageModel,
    name: str,
    passages: Sequence[Passage],
    *,
    batch_size: int,
    window: int | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[ItemResult]:
    """Return the bits per byte of each passage, and which response of a pair is the likelier.

    window: tokens of context; without it as many as the model was trained on. The first window of a
    passage scores what fits, each later one its second half. A context that is too long loses its
    beginning. Rivals have no result of their own. Raises StopRequested.
    """
    from eval.asking.loglik import continuation_logprobs, vocabulary_bits, windows

    window = window or model.window
    windows_of = [windows(model, each.context_ids, each.ids, window) for each in passages]
    pairs = [each for some in windows_of for each in some]
    label = f"{name}, {BITS_PER_BYTE}"
    logprobs = iter(
        continuation_logprobs(
            model,
            pairs,
            batch_size=batch_size,
            on_progress=(lambda n: on_progress(label, n, len(pairs))) if on_progress else None,
            should_stop=should_stop,
        )
    )
    results: list[ItemResult] = []
    bits_before = 0.0
    for passage, some in zip(passages, windows_of, strict=True):
        bits = -math.fsum(islice(logprobs, len(some))) / math.log(2)
        if not passage.context_ids and passage.ids:
            bits += vocabulary_bits(model)
        if passage.is_rival:
            results.append(_ranked(results[-1], passage, bits_before, bits))
        else:
            num_tokens = sum(len(scored) for _, scored in some)
            results.append(_measured(name, passage, bits, num_tokens, window))
        bits_before = bits
    return results


def _measured(name: str, passage: Passage, bits: float, num_tokens: int, window: int) -> ItemResult:
    size_bytes = len(passage.text.encode())
    result = ItemResult(
        task=name,
        item=passage.item,
        metric=BITS_PER_BYTE,
        style="none",
        form=passage.form,
        prompt=_excerpt(passage.context or passage.text),
        gold="",
        response=_excerpt(passage.text) if passage.context else "",
        group=passage.group,
        lower_is_better=True,
        window=window,
    )
    if size_bytes == 0:
        return replace(result, reason="the document is empty")
    return replace(
        result,
        score=bits / size_bytes,
        reason=f"{bits:.1f} bits for {size_bytes} bytes",
        num_tokens=num_tokens,
        weight=size_bytes,
    )


def _ranked(chosen: ItemResult, rival: Passage, chosen_bits: float, bits: float) -> ItemResult:
    """Say whether the chosen response is likelier as a whole than its rival.

    As a policy's ranking accuracy (Chen et al. 2024, "Preference Learning Algorithms Do Not Learn
    Preference Rankings").
    """
    is_right = chosen_bits < bits
    return replace(
        chosen,
        metric=RANKING,
        score=float(is_right),
        reason=f"{chosen_bits:.1f} bits for the chosen response, {bits:.1f} for the rejected one",
        gold=chosen.response,
        response=chosen.response if is_right else _excerpt(rival.text),
        answer="chosen" if is_right else "rejected",
        weight=1.0,
        lower_is_better=False,
        window=0,
        group="",
    )


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
