"""Rows encoded part by part, a few hundred at once, and counted: what all kinds of rows share.

How a row of a kind is encoded is the subject of examples.py, pairs.py and unpaired.py. Imports no
torch.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.data.encoding.row_table import EncodedRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pipeline.data.encoding.lengths import RowCounts
    from pipeline.data.reading.records import Record

ROWS_AT_ONCE = 256
TOO_LONG, CUT, SPELLED, TOKENS = "too long", "cut", "spelled", "tokens"

Row = TypeVar("Row", bound=EncodedRow)
_RowOut = TypeVar("_RowOut", bound=EncodedRow, covariant=True)


@dataclass
class Part(Generic[Row]):
    """Some rows of a source, encoded.

    rows: those that are kept. lengths: tokens of each readable one, before anything is cut.
    counts: what became of them, and their tokens. where: the last one that was looked at.
    """

    rows: list[Row] = field(default_factory=list[Any])
    lengths: list[int] = field(default_factory=list[int])
    counts: Counter[str] = field(default_factory=Counter[str])
    where: str = ""


@dataclass
class Totals:
    """What became of all rows. num_kept, longest: of those that are kept; the rest as of a Part."""

    num_kept: int = 0
    longest: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))
    counts: Counter[str] = field(default_factory=Counter[str])
    where: str = ""

    def add(self, part: Part[Any]) -> None:
        """Count a part in."""
        self.num_kept += len(part.rows)
        self.longest = max(self.longest, *(row.length for row in part.rows), 0)
        self.lengths.extend(part.lengths)
        self.counts.update(part.counts)
        self.where = part.where or self.where

    def notes(self) -> dict[str, Any]:
        """Return all but the lengths as JSON has it."""
        return {
            "num_kept": self.num_kept,
            "longest": self.longest,
            "counts": dict(self.counts),
            "where": self.where,
        }

    @classmethod
    def of(cls, notes: Mapping[str, Any], lengths: array[int]) -> Totals:
        """Return what `notes` was made of."""
        counts = Counter[str](notes["counts"])
        return cls(notes["num_kept"], notes["longest"], lengths, counts, notes["where"])


class Encoder(Protocol[_RowOut]):
    """Encodes rows of one kind, with one tokenizer, within one limit."""

    @property
    def kind(self) -> type[_RowOut]:
        """What a row becomes."""
        ...

    def part(self, records: Sequence[Record]) -> Part[Any]:
        """Encode some rows; much faster for many at once."""
        ...

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> RowCounts:
        """Return what became of the rows.

        That none of a source's (called `name` in the error) is left is an error, unless it
        `may_be_none`.
        """
        ...


def encode_all(
    records: Iterable[Record],
    encoder: Encoder[Row],
    take: Callable[[list[Row]], None],
    totals: Totals | None = None,
) -> Totals:
    """Encode rows, in order; return what became of them.

    take: gets those that are kept, part by part, once they are counted in `totals`.
    """
    totals = totals or Totals()
    for part in parts_of(records, encoder):
        totals.add(part)
        take(part.rows)
    return totals


def parts_of(records: Iterable[Record], encoder: Encoder[Row]) -> Iterator[Part[Row]]:
    """Yield rows encoded, part by part."""
    remaining = iter(records)
    while batch := list(islice(remaining, ROWS_AT_ONCE)):
        yield encoder.part(batch)
