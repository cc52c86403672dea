"""Which rows a training stage may train on: no copies, no test items.

Rows with test items are counted and listed, then kept, dropped or refused, as the recipe's
`decontaminate` says. Knows no stage. Imports no torch.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.data.reading.dedup import is_repeat
from pipeline.data.reading.record_texts import turns
from pipeline.data.reading.tasks import load_task
from pipeline.data.screening.evaluation_items import (
    Evaluated,
    collect_items,
    is_built_in,
    origin_of,
    task_of_questions,
)
from pipeline.data.screening.overlaps import Overlap, Overlaps
from pipeline.errors import PosttrainError
from pipeline.files.names import OVERLAPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import Decontaminate
    from pipeline.config.references import Places
    from pipeline.data.reading.records import Record
    from pipeline.data.screening.evaluation_items import Evaluation
    from pipeline.data.screening.overlaps import Item

_BATCH_CHARACTERS = 1_000_000
_BATCH_ROWS = 2_000
_SHOWN_CHARACTERS = 100
_LISTED = 10_000  # rows; all are counted


@dataclass
class _Found:
    """What one source holds. items: their numbers. first: a row, and the text of an item in it."""

    num_rows: int = 0
    num_repeated: int = 0
    num_overlapping: int = 0
    items: set[int] = field(default_factory=set[int])
    first: tuple[str, str] = ("", "")


class Screen:
    """Passes on the rows of sources that may be trained on.

    evaluations: what will measure the trained model. sources: all that it trains on. reads_hub:
    False to skip items that would have to be fetched.
    """

    def __init__(
        self,
        decontaminate: Decontaminate,
        evaluations: Sequence[Evaluation],
        sources: Sequence[DataBlock],
        places: Places,
        *,
        reads_hub: bool = True,
    ) -> None:
        self._decontaminate = decontaminate
        self._evaluations = evaluations
        self._sources = sources
        self._places = places
        self._reads_hub = reads_hub
        self._found: dict[str, _Found] = {}
        self._listed: list[dict[str, Any]] = []

    def __call__(self, block: DataBlock, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the rows of a source that may be trained on.

        Raises PosttrainError at the first batch with test items, if the recipe refuses those, and
        where dropping them leaves no row.
        """
        counted = self._found.setdefault(block.label, _Found())
        rows = self._drop_repeats(records, counted)
        origin = self._origin(block)
        if self._is_compared(origin):
            rows = self._compare(block, rows, origin, counted)
        yield from rows

    def metrics(self) -> dict[str, Any]:
        """Return the counts as a stage's metrics, without those that do not apply."""
        counts: dict[str, Any] = {}
        if any(block.dedup is not None for block in self._sources):
            counts["rows_repeated"] = sum(source.num_repeated for source in self._found.values())
        if self._has_items:
            rows = sum(source.num_overlapping for source in self._found.values())
            items: set[int] = set().union(*(source.items for source in self._found.values()))
            dropped = self._decontaminate == "drop"
            counts["rows_dropped_overlapping" if dropped else "rows_overlapping"] = rows
            counts["test_items_overlapping"] = len(items)
            counts["test_items_compared"] = len(self._evaluated.items)
            counts["overlaps"] = list(self.lines())
        return counts

    def found(self) -> dict[str, Any]:
        """Return what it found so far, as JSON has it."""
        by_label = {label: asdict(source) for label, source in self._found.items()}
        for source in by_label.values():
            source["items"] = sorted(source["items"])
        return {"found": by_label, "listed": self._listed}

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Have found what `found` returned of the same rows and items."""
        self._found = {
            label: _Found(**{**source, "items": set(source["items"]), "first": (*source["first"],)})
            for label, source in notes["found"].items()
        }
        self._listed = [*notes["listed"]]

    def lines(self, *, says_none: bool = False) -> Iterator[str]:
        """Yield a sentence per source that holds test items, and per thing that was not compared.

        says_none: also for sources that hold none.
        """
        for label, source in self._found.items():
            if source.num_overlapping:
                yield f"{label}: {self._describe_source(label, source)}"
            elif says_none and source.num_rows:
                items = f"the {len(self._evaluated.items)} test items that it was held against"
                yield f"{label}: none of {source.num_rows} rows holds any of {items}"
        if self._has_items:
            for what in self._evaluated.not_compared:
                yield f"not compared with {what}"

    def _describe_source(self, label: str, source: _Found) -> str:
        by_source = Counter(self._evaluated.items[number].source for number in source.items)
        of = self._num_items_by_source
        items = ", ".join(f"{n} of {of[name]} of {name}" for name, n in by_source.items())
        did = ", left out" if self._decontaminate == "drop" else ""
        row, text = source.first
        return (
            f"{source.num_overlapping} of {source.num_rows} rows hold test items{did}"
            f" ({items}); the first is {row}: {text!r}"
        )

    def write(self, folder: Path) -> None:
        """Write which rows hold which items, one JSON line per row; no file where none does."""
        if self._listed:
            lines = "".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in self._listed)
            (folder / OVERLAPS).write_text(lines, encoding="utf-8")

    @cached_property
    def _evaluated(self) -> Evaluated:
        all_built_in = all(is_built_in(self._origin(block)) for block in self._sources)
        return collect_items(
            self._evaluations,
            self._places,
            generated=not all_built_in,
            reads_hub=self._reads_hub,
            may_miss=self._decontaminate == "warn",
        )

    @cached_property
    def _has_items(self) -> bool:
        return bool(self._evaluations and (self._evaluated.items or self._evaluated.not_compared))

    @cached_property
    def _overlaps(self) -> Overlaps:
        return Overlaps(self._evaluated.items)

    @cached_property
    def _num_items_by_source(self) -> Counter[str]:
        return Counter(item.source for item in self._evaluated.items)

    def _origin(self, block: DataBlock) -> object:
        name = block.task
        if block.stage is not None and (made := self._places.made.get(block.stage[1:])):
            name = task_of_questions(made)
        if name is None:
            return None
        try:
            return origin_of(load_task(name, self._places))
        except ValueError as error:
            raise PosttrainError(block.label, str(error)) from error

    def _is_compared(self, origin: object) -> bool:
        if not self._has_items:
            return False
        return any(_may_hold(origin, item) for item in self._evaluated.items)

    @staticmethod
    def _drop_repeats(rows: Iterable[Record], counted: _Found) -> Iterator[Record]:
        for record in rows:
            if is_repeat(record):
                counted.num_repeated += 1
            else:
                yield record

    def _compare(
        self, block: DataBlock, rows: Iterator[Record], origin: object, counted: _Found
    ) -> Iterator[Record]:
        while batch := list(_batch(rows)):
            overlaps = self._overlaps.find([texts for _, texts in batch])
            kept: list[Record] = []
            for (record, _), held in zip(batch, overlaps, strict=True):
                counted.num_rows += 1
                told = [overlap for overlap in held if self._counts(origin, overlap)]
                if told:
                    self._note(block.label, record, told, counted)
                if not told or self._decontaminate != "drop":
                    kept.append(record)
            if counted.num_overlapping and self._decontaminate == "error":
                message = self._describe_source(block.label, counted)
                hint = "take them out, or write `decontaminate: drop`"
                raise PosttrainError(block.label, message, hint)
            yield from kept
        if self._decontaminate == "drop" and 0 < counted.num_rows == counted.num_overlapping:
            message = "every row holds test items, so `decontaminate: drop` leaves none"
            hint = "is it the file that is evaluated? A long text is divided by a `separator`"
            raise PosttrainError(block.label, message, hint)

    def _counts(self, origin: object, overlap: Overlap) -> bool:
        item = self._evaluated.items[overlap.item]
        if not _may_hold(origin, item):
            return False
        return origin is None or item.origin is not origin or overlap.is_whole

    def _note(
        self, label: str, record: Record, overlaps: Sequence[Overlap], counted: _Found
    ) -> None:
        counted.num_overlapping += 1
        counted.items.update(overlap.item for overlap in overlaps)
        is_listed = len(self._listed) < _LISTED
        if not is_listed and counted.num_overlapping > 1:
            return
        items = [self._describe(overlap) for overlap in overlaps]
        if counted.num_overlapping == 1:
            counted.first = record.where, items[0]["text"]
        if is_listed:
            self._listed.append({"row": record.where, "source": label, "items": items})

    def _describe(self, overlap: Overlap) -> dict[str, Any]:
        item = self._evaluated.items[overlap.item]
        text = " ".join(item.texts[0].split())
        cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
        share = round(overlap.share, 3)
        return {"of": item.source, "item": item.name, "share": share, "text": cut}


def _may_hold(origin: object, item: Item) -> bool:
    """Whether rows of an origin are searched for an item: ours are not, for items of ours."""
    return not (is_built_in(origin) and is_built_in(item.origin))


def _batch(rows: Iterator[Record]) -> Iterator[tuple[Record, list[str]]]:
    size = 0
    for record in islice(rows, _BATCH_ROWS):
        texts = turns(record)
        yield record, texts
        size += sum(map(len, texts))
        if size >= _BATCH_CHARACTERS:
            return
