"""The rows and documents that a stage trains on, from its data blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.data.mixing import RowSource, TokenSource
from pipeline.data.reading.columns import NotUsed
from pipeline.data.reading.data_blocks import read_marked_records
from pipeline.data.reading.dedup import drop_repeats

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
        not_used = NotUsed()
        # What a stage writes beside the text, it writes to be looked at.
        noted = None if block.stage is not None else not_used
        rows = list(_screen_rows(block, places, forms, screen, not_used=noted))
        sources.append(RowSource(block.label, rows, block.weight, not_used.names))
    return sources


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
