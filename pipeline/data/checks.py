"""Reads a whole source and checks every row, before anything expensive begins. Imports no torch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from eval.task import Task
from pipeline.data.formats import ChatRow, PromptCompletionRow, Record, TextRow, read
from pipeline.recipe.config import DataBlock, DataForm
from pipeline.recipe.references import Places


@dataclass(frozen=True)
class DataCounts:
    """What a source holds.

    size_bytes: of its texts in UTF-8, without names and quotes.
    num_duplicates: rows that say the same as an earlier one.
    """

    label: str
    form: DataForm
    num_rows: int
    size_bytes: int
    num_duplicates: int


def check_data(
    block: DataBlock,
    places: Places,
    forms: Sequence[DataForm],
    *,
    task: Task | None = None,
    held_out: bool = False,
) -> DataCounts:
    """Count a source's rows; the first row that cannot be used is an error.

    With `holdout`, the other side must have a row too, or the split is of no use.
    """
    num_rows, size_bytes = 0, 0
    form: DataForm = "text"
    seen: set[bytes] = set()
    for record in read(block, places, forms=forms, task=task, held_out=held_out):
        form, texts = _texts(record)
        num_rows += 1
        size_bytes += sum(len(text.encode()) for text in texts)
        seen.add(hashlib.sha256("\0".join(texts).encode()).digest()[:16])
    if block.holdout is not None:
        next(read(block, places, forms=forms, task=task, held_out=not held_out))
    return DataCounts(block.label, form, num_rows, size_bytes, num_rows - len(seen))


def _texts(record: Record) -> tuple[DataForm, list[str]]:
    if isinstance(record, TextRow):
        return "text", [record.text]
    if isinstance(record, PromptCompletionRow):
        return "prompt_completion", [record.prompt, record.completion]
    assert isinstance(record, ChatRow)
    return "chat", [part for message in record.messages for part in message]
