"""Whole sources read and checked row by row, before anything expensive begins. Imports no torch."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.task import Task
from pipeline.config.blocks import DataBlock
from pipeline.config.field_types import DataForm
from pipeline.config.references import Places
from pipeline.data.reading.columns import NotUsed, name_unused
from pipeline.data.reading.dedup import read_marked
from pipeline.data.reading.record_texts import form_and_texts
from pipeline.data.reading.records import DroppedRow
from pipeline.errors import PosttrainError


@dataclass(frozen=True)
class DataCounts:
    """What a source holds.

    num_rows: all rows, including those that are dropped.
    size_bytes: of the texts of the rest in UTF-8, without names and quotes.
    num_duplicates: rows that say the same as an earlier row.
    num_dropped_by_reason: rows that nothing can be learnt from.
    not_used: columns and keys that nothing reads.
    """

    label: str
    form: DataForm
    num_rows: int
    size_bytes: int
    num_duplicates: int
    num_dropped_by_reason: Mapping[str, int]
    not_used: tuple[str, ...] = ()

    def __str__(self) -> str:
        line = (
            f"{self.label}: {self.num_rows} rows ({self.form}), "
            f"{self.size_bytes} bytes, {self.num_duplicates} duplicates"
        )
        if self.num_dropped_by_reason:
            reasons = ", ".join(f"{why}: {n}" for why, n in self.num_dropped_by_reason.items())
            line = f"{line}, {sum(self.num_dropped_by_reason.values())} dropped ({reasons})"
        left = name_unused(self.not_used)
        return f"{line}; {left}" if left else line


def check_data(
    block: DataBlock,
    places: Places,
    forms: Sequence[DataForm],
    *,
    task: Task | None = None,
    held_out: bool = False,
) -> DataCounts:
    """Count a source's rows; the first row that cannot be read is an error.

    So is a source of which every row is dropped. With `holdout`, the held-out side is read too: it
    must have a row, or the split is useless, and a stage may measure on it.
    """
    num_kept, size_bytes = 0, 0
    dropped: Counter[str] = Counter()
    form: DataForm = "text"
    seen: set[bytes] = set()
    not_used = NotUsed()
    settings: dict[str, Any] = {"forms": forms, "task": task}
    for record in read_marked(block, places, held_out=held_out, not_used=not_used, **settings):
        if isinstance(record, DroppedRow):
            dropped[record.why] += 1
            continue
        form, texts = form_and_texts(record)
        num_kept += 1
        size_bytes += sum(len(text.encode()) for text in texts)
        seen.add(hashlib.sha256("\0".join(texts).encode()).digest()[:16])
    if block.holdout is not None:
        for _ in read_marked(block, places, held_out=not held_out, **settings):
            pass
    if not num_kept:
        reasons = ", ".join(f"{why}: {n}" for why, n in dropped.items())
        raise PosttrainError(
            block.label, f"every row is dropped ({reasons})", "is it the right file?"
        )
    num_rows = num_kept + dropped.total()
    by_reason = dict(dropped.most_common())
    num_duplicates = num_kept - len(seen)
    return DataCounts(
        block.label, form, num_rows, size_bytes, num_duplicates, by_reason, not_used.names
    )
