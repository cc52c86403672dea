"""The rows and documents that a stage trains on, from its data blocks."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from pipeline.data.mixing import RowShare, RowSource, TokenSource, mix_rows
from pipeline.data.reading.amount import likely_rows
from pipeline.data.reading.columns import NotUsed
from pipeline.data.reading.data_blocks import read_marked_records
from pipeline.data.reading.dedup import drop_repeats
from pipeline.data.reading.records import is_conversation, needs_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.data.reading.data_blocks import Screens
    from pipeline.data.reading.records import Record


def token_sources(
    blocks: Sequence[DataBlock],
    places: Places,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    screen: Screens | None = None,
) -> list[TokenSource]:
    """Return the blocks as sources of documents in token ids; screen: drops test items."""
    from pipeline.data.encoding.examples import encode_documents

    def source(block: DataBlock) -> TokenSource:
        def open_pass(number: int) -> Iterator[NDArray[np.int32]]:
            rows = _screen_rows(block, places, ("text",), screen, seed=seed + number)
            return encode_documents(rows, tokenizer)

        return TokenSource(
            block.label, open_pass, block.weight or 1.0, varies=block.task is not None
        )

    return [source(block) for block in blocks]


def row_sources(
    blocks: Sequence[DataBlock],
    places: Places,
    forms: Sequence[DataForm],
    screen: Screens | None = None,
) -> list[RowSource[Record]]:
    """Return the blocks as sources of rows, which know the columns that nothing reads.

    screen: drops rows that hold test items.
    """
    sources: list[RowSource[Record]] = []
    for block in blocks:
        not_used = _notes_of(block)
        rows = list(_screen_rows(block, places, forms, screen, not_used=not_used))
        names = () if not_used is None else not_used.names
        sources.append(RowSource(block.label, rows, block.weight, names))
    return sources


class Mixture:
    """The rows of one epoch, in the order that the seed gives, to be read once.

    Without weights they are read as they are asked for, so that they are never all in memory; with
    weights, a source's rows must be counted before some are chosen. What is known once all are
    read: shares, needs_template (whether it takes a chat template to write any of them),
    has_conversations.
    """

    def __init__(
        self,
        blocks: Sequence[DataBlock],
        places: Places,
        forms: Sequence[DataForm],
        screen: Screens | None = None,
        *,
        seed: int,
    ) -> None:
        self._blocks, self._places, self._forms = blocks, places, forms
        self._screen, self._seed = screen, seed
        self.shares: list[RowShare] = []
        self.needs_template = self.has_conversations = False
        self._ahead: list[Record] = []  # read already, and not yet handed out
        self._rows = self._read()

    def __iter__(self) -> Iterator[Record]:
        return chain(self._take_ahead(), self._rows)

    def likely_rows(self) -> int:
        """Return about how many rows there are; 0 where that takes reading them."""
        return likely_rows(self._blocks, self._places) or 0

    def will_need_template(self) -> bool:
        """Read ahead until it is known whether it takes a chat template to write a row."""
        while not self.needs_template:
            record = next(self._rows, None)
            if record is None:
                break
            self._ahead.append(record)
        return self.needs_template

    def _take_ahead(self) -> Iterator[Record]:
        rows, self._ahead = self._ahead, []
        return iter(rows)

    def _read(self) -> Iterator[Record]:
        for record in self._mixed():
            self.needs_template = self.needs_template or needs_template(record)
            self.has_conversations = self.has_conversations or is_conversation(record)
            yield record

    def _mixed(self) -> Iterator[Record]:
        if any(block.weight is not None for block in self._blocks):
            sources = row_sources(self._blocks, self._places, self._forms, self._screen)
            mixed, self.shares = mix_rows(sources, seed=self._seed)
            yield from mixed
            return
        for block in self._blocks:
            not_used, num_rows = _notes_of(block), 0
            screened = _screen_rows(
                block, self._places, self._forms, self._screen, not_used=not_used
            )
            for record in screened:
                num_rows += 1
                yield record
            names = () if not_used is None else not_used.names
            self.shares.append(RowShare(block.label, num_rows, names))


def _notes_of(block: DataBlock) -> NotUsed | None:
    """Return what takes note of columns that nothing reads; None where that is how it should be."""
    # What a stage writes beside the text, it writes to be looked at.
    return NotUsed() if block.stage is None else None


def _screen_rows(
    block: DataBlock,
    places: Places,
    forms: Sequence[DataForm],
    screen: Screens | None,
    *,
    seed: int = 0,
    not_used: NotUsed | None = None,
) -> Iterator[Record]:
    rows = read_marked_records(block, places, forms, seed=seed, not_used=not_used)
    return drop_repeats(rows if screen is None else screen(block, rows))
