"""Which rows hold test items, even rewrapped, inside longer text, or lightly edited.

Words (words.py) are compared by n-grams, as is usual (Brown et al. 2020, C; Lambert et al. 2024),
but in two steps, since n-grams alone miss edits and match whatever all items have in common. First,
n-grams shared in order make an item a candidate; the more items have an n-gram (the wording of a
template), the less it counts. Then the words themselves are aligned. Knows nothing of sources and
recipes (screen.py). Imports no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.data.reading.words import ngram_keys, signs_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

N = 4  # words of an n-gram: a text of eight words with one of them changed still shares one
# Shorter items say too little: they count only where they are a whole text of a row.
FEWEST_WORDS = 8
_PASSAGE_WORDS = 64  # longer items are searched passage by passage
_COMMON = 64  # an n-gram that more items have does not tell any of them apart
_BOX_WORDS = 64  # width of a box: hits that put a passage's begin into one box count together
_DRIFT_WORDS = 32  # how far edits (insertions, deletions) may shift a passage within a row
_SHARED = 0.2  # share of its n-grams' weight that makes a passage a candidate
_LOST = 0.25  # share of a passage's words, weighted by rarity, that may be missing
_NUMBERS_LOST = 0.5  # share of its numbers that may be missing
_ITEM_SHARE = 0.5  # share of an item's words in matching passages that makes it an overlap
_TABLE_BITS = 22


@dataclass(frozen=True)
class Item:
    """A test item, or anything else that a model will be measured on.

    source: what it belongs to, as the recipe names it. name: of the item in its source. texts: all
    the ways to put it; one of them is enough for a match. origin: the task that generates it, if
    any.
    """

    source: str
    name: str
    texts: tuple[str, ...]
    origin: object = None


class Overlap(NamedTuple):
    """An item that a row holds.

    item: its number. share: the share of its words in the row, those of a template counting less.
    is_whole: whether a text of the row is the item and nothing more.
    """

    item: int
    share: float
    is_whole: bool = False


@dataclass(frozen=True)
class _Passage:
    """Consecutive words of an item. item, way: its number, and the number of its text."""

    item: int
    way: int
    ids: tuple[int, ...]


class Overlaps:
    """An index of items to look rows up in."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._ids: dict[str, int] = {}  # word -> id, from 1
        self._whole: dict[str, list[tuple[str, int]]] = {}  # words of a text -> (signs, item)
        self._passages: list[_Passage] = []
        self._masks: dict[int, _Masks] = {}
        for number, item in enumerate(items):
            for way, text in enumerate(dict.fromkeys(item.texts)):
                self._add(number, way, text)
        self.numbers = frozenset(one for word, one in self._ids.items() if word.isdigit())
        self.rarity = self._rarity()
        self._build()

    def find(self, rows: Sequence[Sequence[str]]) -> list[list[Overlap]]:
        """Return the items in every row, in any order. rows: of every row its texts, such as turns.

        Much faster for many rows at once.
        """
        overlaps_by_row: list[dict[int, Overlap]] = [{} for _ in rows]
        words: list[str] = []
        starts: list[int] = []
        for number, texts in enumerate(rows):
            starts.append(len(words))
            for text in texts:
                here = words_of(text)
                words += here
                overlaps_by_row[number].update(self._are_whole(text, here))
            if len(texts) > 1:
                overlaps_by_row[number].update(
                    self._are_whole("\n".join(texts), words[starts[-1] :])
                )
            words.append("")  # matches no word, so that no n-gram crosses the end of a row
        ids = np.fromiter(map(self._ids.get, words, repeat(0)), np.uint64, len(words))
        for number, item, share in self._within(ids, np.array(starts, dtype=np.int64)):
            known = overlaps_by_row[number].get(item)
            if known is None or known.share < share:
                overlaps_by_row[number][item] = Overlap(item, share)
        return [list(overlaps.values()) for overlaps in overlaps_by_row]

    def _are_whole(self, text: str, words: Sequence[str]) -> dict[int, Overlap]:
        """Return the items that are all of a text, by number; longer texts are searched."""
        same = self._whole.get(" ".join(words), ()) if len(words) <= _PASSAGE_WORDS else ()
        if not same:
            return {}
        signs = signs_of(text)
        return {item: Overlap(item, 1.0, True) for theirs, item in same if theirs == signs}

    def _add(self, item: int, way: int, text: str) -> None:
        words = words_of(text)
        if not words:
            return
        if len(words) <= _PASSAGE_WORDS:
            self._whole.setdefault(" ".join(words), []).append((signs_of(text), item))
        if len(words) < FEWEST_WORDS:
            return
        ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in words]
        parts = math.ceil(len(ids) / _PASSAGE_WORDS)
        ends = [len(ids) * part // parts for part in range(parts + 1)]
        self._passages += [
            _Passage(item, way, tuple(ids[start:end])) for start, end in pairwise(ends)
        ]

    def _rarity(self) -> dict[int, float]:
        """Return how much a word tells items apart, by its id: log(1 + items / items with it)."""
        words = {passage.item: set[int]() for passage in self._passages}
        for passage in self._passages:
            words[passage.item].update(passage.ids)
        spread = Counter(one for ids in words.values() for one in ids)
        return {one: math.log1p(len(words) / count) for one, count in spread.items()}

    def _build(self) -> None:
        """Lay out an inverted index: sorted n-gram keys, with the passages and places of each."""
        keys, passages, places = (
            [np.zeros(0, np.uint64)],
            [np.zeros(0, np.int64)],
            [np.zeros(0, np.int64)],
        )
        for number, passage in enumerate(self._passages):
            passage_keys = ngram_keys(np.array(passage.ids, dtype=np.uint64), N)
            keys.append(passage_keys)
            passages.append(np.full(len(passage_keys), number))
            places.append(np.arange(len(passage_keys)))
        all_keys, all_passages = np.concatenate(keys), np.concatenate(passages)
        order = np.argsort(all_keys, kind="stable")
        self._keys, first, inverse = np.unique(
            all_keys[order], return_index=True, return_inverse=True
        )
        self._first, self._count = first, np.diff(np.append(first, len(all_keys)))
        self._passage, self._place = all_passages[order], np.concatenate(places)[order]
        self._weight = self._weights(inverse)
        self._total = np.bincount(
            self._passage, weights=self._weight[inverse], minlength=len(self._passages)
        )
        self._item_total: Counter[tuple[int, int]] = Counter()
        for passage, weight in zip(self._passages, self._total.tolist(), strict=True):
            self._item_total[passage.item, passage.way] += weight
        self._table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self._table[self._keys >> np.uint64(64 - _TABLE_BITS)] = True

    def _weights(self, inverse: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight per n-gram: 1 / the number of items that have it, 0 if it is common.

        Items with the same words count as one.
        """
        number_by_ids: dict[tuple[int, ...], int] = {}
        same = np.array(
            [
                number_by_ids.setdefault(passage.ids, len(number_by_ids))
                for passage in self._passages
            ],
            dtype=np.int64,
        )
        pairs = np.unique(np.stack([inverse, same[self._passage]]), axis=1) if len(same) else None
        if pairs is None:
            return np.zeros(0)
        spread = np.bincount(pairs[0], minlength=len(self._keys))
        return np.where(spread > _COMMON, 0.0, 1.0 / np.maximum(spread, 1))

    def _within(
        self, ids: NDArray[np.uint64], starts: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, float]]:
        """Yield row, item and share for items that rows hold among longer text."""
        weights: Counter[tuple[int, int, int]] = Counter()
        for row, number, matched in self._passages_within(ids, starts):
            passage = self._passages[number]
            weights[row, passage.item, passage.way] += self._total[number] * matched
        for (row, item, way), weight in weights.items():
            share = weight / self._item_total[item, way]
            if share >= _ITEM_SHARE:
                yield row, item, float(share)

    def _passages_within(
        self, ids: NDArray[np.uint64], starts: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, float]]:
        """Yield row, passage and the share of it in the row, a passage at most once per row."""
        best: dict[tuple[int, int], float] = {}
        ends = np.append(starts[1:], len(ids))
        for row, number, lowest in self._candidates(ids, starts):
            length = len(self._passages[number].ids)
            low, high = lowest - _DRIFT_WORDS, lowest + _BOX_WORDS + length + _DRIFT_WORDS
            within = slice(max(low, int(starts[row])), min(high, int(ends[row])))
            share = self._align(number, ids[within].tolist())
            if share > best.get((row, number), 0.0):
                best[row, number] = share
        for (row, number), share in best.items():
            yield row, number, share

    def _candidates(
        self, ids: NDArray[np.uint64], starts: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield row, passage and the first place where it may begin, if the two share enough.

        ids: (W,), the words of all rows end to end. starts: where the rows begin in it.
        """
        keys = ngram_keys(ids, N)
        if not len(keys) or not len(self._keys):
            return
        # Most n-grams are in no item. Those with an unknown word go first, then those whose high
        # bits no key has (a table look-up), and the rest by binary search.
        is_known = ids != 0
        may_hit = is_known[: len(keys)].copy()
        for shift in range(1, N):
            may_hit &= is_known[shift : shift + len(keys)]
        may_hit &= self._table[keys >> np.uint64(64 - _TABLE_BITS)]
        at = np.flatnonzero(may_hit)
        slot = np.minimum(np.searchsorted(self._keys, keys[at]), len(self._keys) - 1)
        is_hit = (self._keys[slot] == keys[at]) & (self._weight[slot] > 0)
        at, slot = at[is_hit], slot[is_hit]
        # From n-grams (H,) to postings (P,): an n-gram has one for every place where it stands.
        count = self._count[slot]
        of = np.repeat(np.arange(len(at)), count)
        nth = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
        posting = self._first[slot][of] + nth
        passage, weight = self._passage[posting], self._weight[slot][of]
        row = np.searchsorted(starts, at[of], side="right") - 1
        begins = at[of] - self._place[posting]  # where the passage would begin
        # Hits of one passage fall into one box or two, and at least half of them into one.
        box = (begins + _BOX_WORDS) // _BOX_WORDS  # + one box: a passage may begin before its row
        num_boxes = len(ids) // _BOX_WORDS + 2
        # Row, passage and box as a single number sort faster than three keys.
        code, inverse = np.unique(
            (row * len(self._passages) + passage) * num_boxes + box, return_inverse=True
        )
        shared = np.bincount(inverse, weights=weight)
        number = code // num_boxes % len(self._passages)
        for one in code[shared >= _SHARED * self._total[number]].tolist():
            both, place = divmod(one, num_boxes)
            of_row, which = divmod(both, len(self._passages))
            yield of_row, which, (place - 1) * _BOX_WORDS

    def _align(self, number: int, ids: Iterable[int]) -> float:
        """Return the share of a passage's words that stand in this order among the ids of a row.

        0 where too many are missing, or too many of those that tell items apart: rare words, and
        numbers, without which a question is a different one. Computes the longest common
        subsequence, bit-parallel (Hyyrö 2004): a bit per word of the passage, 0 once it is matched.
        """
        masks = self._masks.get(number)
        if masks is None:
            masks = self._masks[number] = _Masks.of(self._passages[number].ids, self)
        full = (1 << masks.length) - 1
        missing = full
        for one in ids:
            places = masks.places.get(one)
            if places:
                shared = missing & places
                missing = ((missing + shared) | (missing - shared)) & full
        num_missing = missing.bit_count()
        numbers = masks.numbers.bit_count()
        if num_missing > _forgiven(masks.length):
            return 0.0
        if numbers > 1 and (missing & masks.numbers).bit_count() > _NUMBERS_LOST * numbers:
            return 0.0
        lost = sum(weight for place, weight in enumerate(masks.weights) if missing >> place & 1)
        # Items made from one template differ in few words: those must be there.
        own = float(self._total[number]) / max(1, masks.length - N + 1)
        if lost > _LOST * min(1.0, 2 * own) * sum(masks.weights):
            return 0.0
        return 1 - num_missing / masks.length


@dataclass(frozen=True)
class _Masks:
    """A passage as bits, its first word the lowest bit.

    places: the bits of a word, by its id. numbers: the bits of numbers. weights: per word, in
    order, how rare it is among the items.
    """

    length: int
    places: Mapping[int, int]
    numbers: int
    weights: Sequence[float]

    @staticmethod
    def of(ids: Sequence[int], index: Overlaps) -> _Masks:
        places: dict[int, int] = {}
        for place, one in enumerate(ids):
            places[one] = places.get(one, 0) | 1 << place
        numbers = sum(1 << place for place, one in enumerate(ids) if one in index.numbers)
        return _Masks(len(ids), places, numbers, [index.rarity[one] for one in ids])


def _forgiven(num_words: int) -> int:
    """Return how many words of a passage may be missing: one of 8, and a quarter of the rest."""
    return 1 + (num_words - FEWEST_WORDS) // 4
