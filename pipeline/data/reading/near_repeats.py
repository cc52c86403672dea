"""Rows that nearly repeat an earlier one, found by MinHash over their shingles; exactly: dedup.py.

A pair that the bands propose is compared in full. Imports no torch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.reading.record_texts import parts
from pipeline.data.reading.words import ngram_keys, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.data.reading.records import Record

SIMILARITY = 0.8
_SHINGLE_WORDS = 3
_BANDS, _ROWS_A_BAND = 21, 6  # a pair at 0.8 is a candidate in 998 of 1,000 cases
_PERMUTATIONS = _BANDS * _ROWS_A_BAND
_SEED = 42
_COMPARED_AS_IS = 8  # texts of fewer words must be equal: `x > 0` is not nearly `x < 0`

Shingles = tuple["NDArray[np.uint64]", ...]


class NearRepeats:
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
