"""Rows encoded part by part, a few hundred at once, and counted: what all kinds of rows share.

How a row of a kind is encoded is the subject of examples.py, pairs.py and unpaired.py. Imports no
torch.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.data.encoding.forks import CAN_FORK, in_order
from pipeline.data.encoding.row_table import EncodedRow, batch_of
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pipeline.data.encoding.lengths import Limit, RowCounts
    from pipeline.data.encoding.row_table import RowWriter
    from pipeline.data.reading.records import Record

ROWS_AT_ONCE = 256
_BATCHES_ALONE = 8
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

    def totals(self) -> Totals:
        """Return what became of these rows."""
        longest = max((row.length for row in self.rows), default=0)
        return Totals(len(self.rows), longest, array("i", self.lengths), self.counts, self.where)


@dataclass
class Totals:
    """What became of rows. num_kept, longest: of those that are kept; the rest as of a Part."""

    num_kept: int = 0
    longest: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))
    counts: Counter[str] = field(default_factory=Counter[str])
    where: str = ""

    def add(self, more: Totals) -> None:
        """Count more rows in."""
        self.num_kept += more.num_kept
        self.longest = max(self.longest, more.longest)
        self.lengths.extend(more.lengths)
        self.counts.update(more.counts)
        self.where = more.where or self.where

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


def counted(
    totals: Totals,
    limit: Limit,
    reasons: Sequence[str],
    *,
    name: str,
    room: str,
    may_be_none: bool,
) -> dict[str, Any]:
    """Return what RowCounts says of rows that are dropped for some reasons, too long or not.

    Raises PosttrainError where none of `name` is left for `room`, and one must be.
    """
    counts = totals.counts
    num_rows = totals.num_kept + sum(counts[why] for why in reasons)
    if not totals.num_kept and not may_be_none:
        dropped = ", ".join(
            f"{counts[why]} {why}" for why in counts if why in reasons and counts[why]
        )
        message = f"none of {num_rows} {name} is left for {room}: {dropped}"
        noun = "prompts" if "prompts" in name else "rows"
        hint = limit.room_hint(noun) if counts[TOO_LONG] else ""
        raise PosttrainError(totals.where, message, hint)
    return {
        "limit": limit,
        "num_rows": num_rows,
        "num_dropped_too_long": counts[TOO_LONG],
        "num_cut": counts[CUT],
        "num_tokens": counts[TOKENS],
        "longest_tokens": totals.longest,
        "lengths": totals.lengths,
    }


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
    records: Iterable[Record], encoder: Encoder[Row], take: Callable[[list[Row]], None]
) -> Totals:
    """Encode rows, in order; return what became of them.

    take: gets those that are kept, part by part.
    """
    totals = Totals()
    for batch in _batches(records):
        part = encoder.part(batch)
        totals.add(part.totals())
        take(part.rows)
    return totals


def encode_into(
    writer: RowWriter,
    records: Iterable[Record],
    encoder: Encoder[Any],
    *,
    processes: int,
    on_part: Callable[[int], None],
) -> Totals:
    """Encode rows into a file, in order; return what became of them.

    processes: how many share the work, once there is enough of it. The file is the same, whatever
    their number. on_part: called again and again with how many rows are encoded; it may raise.
    """
    totals, batches = Totals(), _batches(records)

    def work(batch: Sequence[Record]) -> tuple[Totals, Any]:
        part = encoder.part(batch)
        return part.totals(), batch_of(encoder.kind, part.rows).serialize()

    # The first ones here: most data has no more, and processes begin with what templates wrote.
    parts = map(work, islice(batches, _BATCHES_ALONE))
    more = in_order(batches, work, processes) if processes > 1 and CAN_FORK else map(work, batches)
    for of_part, content in chain(parts, more):
        totals.add(of_part)
        writer.append(content)
        on_part(len(totals.lengths))
    return totals


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    remaining = iter(records)
    while batch := list(islice(remaining, ROWS_AT_ONCE)):
        yield batch
