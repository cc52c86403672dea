"""About how many rows a source has, from a look at its beginning: for showing how far one is.

Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.data.reading.sources import ROWS_PER_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places

_LOOKED_AT_BYTES = 1 << 20


def likely_rows(blocks: Iterable[DataBlock], places: Places) -> int | None:
    """Return about how many rows some sources have; None where that takes reading them."""
    total = 0
    for block in blocks:
        rows = _rows_of(block, places)
        if rows is None:
            return None
        total += rows
    return total


def _rows_of(block: DataBlock, places: Places) -> int | None:
    if block.task is not None:
        return block.rows or ROWS_PER_TASK
    if block.file is None or not block.file.lower().endswith(".jsonl"):
        return block.rows
    try:
        path = places.file(block.file)
        with path.open("rb") as stream:
            begun = stream.read(_LOOKED_AT_BYTES)
        rows = round(path.stat().st_size * begun.count(b"\n") / max(1, len(begun)))
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return block.rows
    rows = round(rows * (1 - (block.holdout or 0))) - (block.skip or 0)
    return max(0, rows if block.rows is None else min(rows, block.rows))
