"""Says which prompts a model did not get, and which are longer than anything it was trained on.

Neither is an error: few-shot prompts grow with their shots, and the curve then ends where they do.
But a figure that misses items, or asks what the model never saw, is to say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.asking.question import NO_ROOM
from eval.results import VERIFIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.model import LanguageModel
    from eval.results import ItemResult

_NOTED = 0.01  # of the items of a way of asking: fewer change no figure


def note_lengths(results: Sequence[ItemResult], model: LanguageModel) -> list[str]:
    """Return notes on prompts that did not fit, or are beyond the rows of pre-training.

    A prompt counts with its response: the model has to read both. Chats are not compared with
    rows of documents, which have another form anyway.
    """
    asked = [result for result in results if result.style != "none" and result.sample == 0]
    notes: list[str] = []
    left_out = _by_way(asked, (result for result in asked if NO_ROOM in result.reason))
    if left_out:
        notes.append(
            f"`{model.name}` was not asked all items, as prompt and answer are longer than its "
            f"{model.max_length} positions: {', '.join(left_out)}."
        )
    trained = model.trained_length
    if model.form == "document" and trained is not None and trained < (model.max_length or 1e9):
        written = [each for each in asked if each.metric == VERIFIED and NO_ROOM not in each.reason]
        beyond = (
            each
            for each in written
            if len(model.encode_document(each.prompt)) + each.num_tokens > trained
        )
        beyond_by_way = _by_way(written, beyond)
        if beyond_by_way:
            notes.append(
                f"`{model.name}` was pre-trained on rows of {trained} tokens, and longer with "
                f"their answers are, of the prompts of {', '.join(beyond_by_way)}: it was never "
                "taught to look back so far. A longer `sequence_length` teaches it."
            )
    return notes


def _by_way(asked: Iterable[ItemResult], counted: Iterable[ItemResult]) -> list[str]:
    """Return `task, style shots: count of all` for each way of asking with enough of them."""
    numbers: dict[str, list[int]] = {}
    for place, results in enumerate((asked, counted)):
        for result in results:
            shots = f" {result.shots}" if result.shots else ""
            way = f"`{result.task}` by {result.metric}, {result.style}{shots}"
            numbers.setdefault(way, [0, 0])[place] += 1
    return [
        f"{way}: {number:,} of {total:,}"
        for way, (total, number) in numbers.items()
        if number > _NOTED * total
    ]
