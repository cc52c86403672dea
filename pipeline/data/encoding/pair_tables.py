"""Columns of encoded pairs as trainers take them: labels, and whole sequences. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.data.encoding.pair_labels import MARGIN, PROBABILITY
from pipeline.data.encoding.row_table import mapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.data.encoding.pairs import EncodedPair
    from pipeline.data.encoding.row_table import RowTable

_USUAL = {MARGIN: 0.0, PROBABILITY: 1.0}  # what changes nothing


def label_columns(pairs: RowTable[EncodedPair]) -> dict[str, NDArray[np.float64]]:
    """Return `margin` and `probability` of the pairs as columns, if any pair has one."""
    columns = {name: pairs.column(name) for name in _USUAL}
    return {
        name: np.where(np.isnan(values), _USUAL[name], values)
        for name, values in columns.items()
        if not np.isnan(values).all()
    }


def first_labelled(pairs: RowTable[EncodedPair]) -> list[int]:
    """Return the numbers of the first pairs whose margin and probability change anything."""
    found: set[int] = set()
    for name, usual in _USUAL.items():
        values = pairs.column(name)
        labelled = np.flatnonzero(~np.isnan(values) & (values != usual))
        found.update(labelled[:1].tolist())
    return sorted(found)


def whole_sequences(pairs: RowTable[EncodedPair]) -> pa.Table:
    """Return prompt and response together, of both responses, as `chosen_ids`, `rejected_ids`."""
    names = ("chosen_ids", "rejected_ids")
    batches = pairs.table.select(["prompt_ids", *names]).to_batches()
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in names])
    joined = (
        pa.record_batch(
            [_joined(batch.column("prompt_ids"), batch.column(name)) for name in names],
            schema=schema,
        )
        for batch in batches
    )
    return mapped(joined, schema)


def _joined(first: Any, second: Any) -> pa.ListArray:
    """Return lists of ids, each of them one of the first followed by its partner, (N,)."""
    lengths = np.empty(2 * len(first), dtype=np.int64)
    lengths[::2], lengths[1::2] = first.value_lengths(), second.value_lengths()
    ends = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.empty(ends[-1], dtype=np.int32)
    for column, starts in ((first, ends[:-1:2]), (second, ends[1:-1:2])):
        counts = np.asarray(column.value_lengths(), dtype=np.int64)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ids[np.repeat(starts, counts) + within] = column.flatten()
    return pa.ListArray.from_arrays(ends[::2].astype(np.int32), ids)
