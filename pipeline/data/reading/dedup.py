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

import numpy as np

from pipeline.data.reading.formats import read_source
from pipeline.data.reading.holdout import is_held_out
from pipeline.data.reading.record_texts import form_and_texts, parts
from pipeline.data.reading.records import REPEATS, DroppedRow, PreferenceRow, UnpairedRow
from pipeline.data.reading.sources import no_rows
from pipeline.data.reading.words import ngram_keys, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from eval.task import Task
    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.data.reading.columns import NotUsed
    from pipeline.data.reading.files import Row
    from pipeline.data.reading.records import Record

SIMILARITY = 0.8
_SHINGLE_WORDS = 3
_BANDS, _ROWS_A_BAND = 21, 6  # a pair at 0.8 is a candidate in 998 of 1,000 cases
_PERMUTATIONS = _BANDS * _ROWS_A_BAND
_SEED = 42
_COMPARED_AS_IS = 8  # texts of fewer words must be equal: `x > 0` is not nearly `x < 0`

Shingles = tuple["NDArray[np.uint64]", ...]


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
    repeats = _repeats_exactly() if block.dedup == "exact" else _Near().repeats
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


def digest(record: Record) -> bytes:
    """Return a hash of what a record says, including the strength of a preference and its label."""
    texts = form_and_texts(record)[1]
    if isinstance(record, PreferenceRow):
        texts = [*texts, f"{record.margin} {record.probability}"]
    if isinstance(record, UnpairedRow):
        texts = [*texts, str(record.is_desirable)]
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]


class _Near:
    """Remembers records and recognises those that are nearly the same."""

    def __init__(self) -> None:
        from rensa import RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue]

        # The threshold is for a measure of its own that is not used.
        self._near = RMinHashLSH(SIMILARITY, _PERMUTATIONS, _BANDS)
        self._kept: list[Shingles] = []
        self._ids: dict[str, int] = {}

    def repeats(self, record: Record) -> bool:
        """Return whether a record nearly repeats an earlier one; if it does not, remember it."""
        from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

        shingles = tuple(self._shingles(text) for text in parts(record))
        sketch = RMinHash(_PERMUTATIONS, _SEED)
        sketch.update([str(shingle) for shingle in np.concatenate(shingles).tolist()])
        if any(_are_near(self._kept[number], shingles) for number in self._near.query(sketch)):
            return True
        self._near.insert(len(self._kept), sketch)
        self._kept.append(shingles)
        return False

    def _shingles(self, text: str) -> NDArray[np.uint64]:
        """Return the distinct shingles of a text, sorted; a short text is a single one."""
        words = words_of(text)
        if len(words) < _COMPARED_AS_IS:
            plain = " ".join(text.split()).casefold()
            return np.frombuffer(hashlib.sha256(plain.encode()).digest()[:8], dtype=np.uint64)
        ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in words]
        return np.unique(ngram_keys(np.array(ids, dtype=np.uint64), _SHINGLE_WORDS))


def _are_near(left: Shingles, right: Shingles) -> bool:
    """Whether all parts of two records are nearly the same."""
    if len(left) != len(right):
        return False
    for ours, theirs in zip(left, right, strict=True):
        shared = len(np.intersect1d(ours, theirs, assume_unique=True))
        if shared < SIMILARITY * (len(ours) + len(theirs) - shared):
            return False
    return True
