"""`dedup:` of a source: rows that repeat an earlier row, exactly or nearly, are dropped.

    exact   rows that say the same, character for character
    near    rows whose prompts and answers differ in white space, case and punctuation only, or in
            few words: at least 0.8 of their three-word shingles are shared (Jaccard). Candidates
            come from MinHash with bands (Broder 1997, Leskovec et al. 2014, 3.4) and are then
            compared exactly, so that no row is dropped because of an estimate.

The first of the copies stays. This comes before `holdout` splits a source, so that neither side
holds a copy of what is on the opposite side. Imports no torch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pipeline.data.reading.formats import read_source
from pipeline.data.reading.holdout import is_held_out
from pipeline.data.reading.record_texts import form_and_texts
from pipeline.data.reading.records import REPEATS, DroppedRow, PreferenceRow, UnpairedRow
from pipeline.data.reading.sources import no_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eval.task import Task
    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.data.reading.columns import NotUsed
    from pipeline.data.reading.files import Row
    from pipeline.data.reading.records import Record


def read_marked(
    block: DataBlock,
    places: Places,
    *,
    forms: Sequence[DataForm],
    task: Task | None = None,
    seed: int = 0,
    held_out: bool = False,
    not_used: NotUsed | None = None,
) -> Iterator[Record]:
    """Yield what `formats.read_source` does, with a DroppedRow in place of repeated rows.

    Only where the block says `dedup`. `rows` of a file or the hub are counted without repeats.
    """
    settings: dict[str, Any] = {"forms": forms, "task": task, "seed": seed, "not_used": not_used}
    if block.dedup is None:
        yield from read_source(block, places, held_out=held_out, **settings)
        return
    last: list[Row] = []
    lifted = {"dedup": None, "holdout": None} | ({} if block.task else {"rows": None})
    whole = block.model_copy(update=lifted)
    repeats = _repeats_exactly() if block.dedup == "exact" else _repeats_nearly()
    num_kept = 0
    for record in read_source(whole, places, held_out=held_out, on_row=last.append, **settings):
        row = last[-1]
        last.clear()
        is_again = not isinstance(record, DroppedRow) and repeats(record)
        share = block.holdout
        by_prompt = block.stage is not None
        if (
            share is not None
            and is_held_out(row.fields, share, block.columns, by_prompt=by_prompt) != held_out
        ):
            continue
        yield DroppedRow(record.where, REPEATS) if is_again else record
        num_kept += not is_again
        if block.rows is not None and num_kept == block.rows:
            return
    if not num_kept:
        raise no_rows(block, held_out=held_out)


def drop_repeats(rows: Iterable[Record]) -> Iterator[Record]:
    """Yield the records that do not repeat an earlier one."""
    return (record for record in rows if not is_repeat(record))


def is_repeat(record: Record) -> bool:
    """Whether a record stands for a row that `dedup` drops."""
    return isinstance(record, DroppedRow) and record.why == REPEATS


def _repeats_exactly() -> Callable[[Record], bool]:
    seen: set[bytes] = set()

    def repeats(record: Record) -> bool:
        key = digest(record)
        is_new = key not in seen
        seen.add(key)
        return not is_new

    return repeats


def _repeats_nearly() -> Callable[[Record], bool]:
    from pipeline.data.reading.near_repeats import NearRepeats  # numpy: a plan need not load it

    return NearRepeats().repeats


def digest(record: Record) -> bytes:
    """Return a hash of what a record says, including the strength of a preference and its label."""
    texts = form_and_texts(record)[1]
    if isinstance(record, PreferenceRow):
        texts = [*texts, f"{record.margin} {record.probability}"]
    if isinstance(record, UnpairedRow):
        texts = [*texts, str(record.is_desirable)]
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]
