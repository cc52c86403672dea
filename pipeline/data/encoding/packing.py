"""Documents packed into rows of one length (N, T), so that no document sees another.

A transformers model that gets position ids and no attention mask makes a block-diagonal mask
itself, with a new block wherever positions begin anew (masking_utils.find_packed_sequence_indices).
Passing an attention mask, even one of ones, switches that off, and so does a key-value cache. Each
architecture is tried out before it trains (pipeline/models/probe.py); those that do not keep
documents apart get padded rows instead (padding.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.data.encoding.examples import IGNORED
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

OWNER = "owner"  # which of a batch's rows a token belongs to; -1 in the padding
# How many documents are packed together: more fill rows no better, and would sort the whole mix by
# length, since best fit takes the longest first.
_DOCUMENTS_AT_ONCE = 8_192


@dataclass(frozen=True)
class PackedRows:
    """N packed rows of T tokens. input_ids, position_ids, labels: (N, T), int32.

    Positions begin at 0 with every document, and again with the padding at a row's end. Labels are
    IGNORED in the padding and at a document's first token, which the last token of another document
    would predict.
    lengths: (N,), tokens per row without padding. members: the numbers of the documents in every
    row, where they came with labels.
    """

    input_ids: NDArray[np.int32]
    position_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    lengths: NDArray[np.int64]
    members: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_loss_tokens(self) -> int:
        """How many tokens are predicted."""
        return int((self.labels != IGNORED).sum())

    @property
    def padding_share(self) -> float:
        """The share of padding among the N x T places."""
        return 1 - float(self.lengths.sum()) / self.input_ids.size

    def dataset(self) -> PackedDataset:
        """Return the rows for a trainer."""
        return PackedDataset(self)

    def collate(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor | bool]:
        """Stack rows of (T,) to a batch of (B, T), with `use_cache` off.

        With a cache, which is on in a freshly loaded model, transformers makes a plain causal mask,
        and packed documents see across their borders without any warning.
        """
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**batch, "use_cache": False}

    def collate_lines(
        self, rows: Sequence[dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor | bool]:
        """Do the same with rows that have an OWNER (T,): each row's number in the batch, (B, T)."""
        numbered = [
            {**row, OWNER: row[OWNER].where(row[OWNER] < 0, n)} for n, row in enumerate(rows)
        ]
        return self.collate(numbered)


class PackedDataset(Dataset[dict[str, torch.Tensor]]):
    """Packed rows for a trainer, without an attention mask on purpose."""

    def __init__(self, packed: PackedRows) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        rows = {
            "input_ids": self._packed.input_ids,
            "position_ids": self._packed.position_ids,
            "labels": self._packed.labels,
        }
        tensors = {name: torch.from_numpy(row[number]).long() for name, row in rows.items()}
        return {**tensors, "row": torch.tensor(number)}


def pack(
    documents: Sequence[NDArray[np.int32]],
    *,
    sequence_length: int,
    pad_token_id: int,
    labels: Sequence[NDArray[np.int32]] | None = None,
) -> PackedRows:
    """Pack documents by best fit; one longer than a row is split into parts that are kept apart.

    documents: (L,) ids, of any length L. labels: (L,) per document; without them every token is its
    own label.
    """
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    if lengths.sum() == 0:
        raise PosttrainError("", "there are no documents to pack")
    columns: dict[str, Sequence[NDArray[np.int32]]] = {"input_ids": documents}
    if labels is not None:
        numbers = [np.full(length, n, dtype=np.int32) for n, length in enumerate(lengths.tolist())]
        columns |= {"labels": labels, "numbers": numbers}
    packed, row_lengths, document_lengths, per_row = _best_fit(columns, lengths, sequence_length)

    # Rows come end to end without padding: (sum of row_lengths,). A mask spreads them to (N, T).
    num_rows = len(row_lengths)
    is_filled = np.arange(sequence_length) < row_lengths[:, None]  # (T,) < (N, 1) -> (N, T)
    input_ids = np.full((num_rows, sequence_length), pad_token_id, dtype=np.int32)
    input_ids[is_filled] = packed["input_ids"]
    packed_labels = np.full_like(input_ids, IGNORED)
    packed_labels[is_filled] = packed["input_ids" if labels is None else "labels"]

    # Where documents (D of them, or parts) begin in the padded rows laid flat, (N * T,): the row's
    # place, plus how far the document is from the row's first token.
    row_of_document = np.repeat(np.arange(num_rows), per_row)  # (D,)
    before = np.cumsum(document_lengths) - document_lengths  # (D,), tokens before a document
    row_before = np.cumsum(row_lengths) - row_lengths  # (N,), tokens before a row
    starts = row_of_document * sequence_length + before - row_before[row_of_document]  # (D,)
    packed_labels.reshape(-1)[starts] = IGNORED
    has_padding = row_lengths < sequence_length
    padding_starts = (np.arange(num_rows) * sequence_length + row_lengths)[has_padding]

    # A position is the distance to the nearest start before it: a running maximum of the starts.
    places = np.arange(input_ids.size, dtype=np.int64)  # (N * T,)
    begins = np.zeros_like(places)
    all_starts = np.concatenate([starts, padding_starts])
    begins[all_starts] = all_starts
    positions = (places - np.maximum.accumulate(begins)).astype(np.int32).reshape(input_ids.shape)
    members: Sequence[Sequence[int]] = ()
    if labels is not None:
        in_order = np.split(packed["numbers"][before], np.cumsum(per_row)[:-1])
        members = [row.tolist() for row in in_order]
    return PackedRows(input_ids, positions, packed_labels, row_lengths, members)


def _best_fit(
    columns: Mapping[str, Sequence[NDArray[np.int32]]],
    lengths: NDArray[np.int64],
    sequence_length: int,
) -> tuple[dict[str, NDArray[np.int32]], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pack by TRL's best-fit-decreasing (`bfd_split`).

    columns: per name one array (L,) per document. Returns the columns of all rows end to end, the
    lengths of rows (N,), the lengths of documents or their parts (D,), and how many of those are in
    every row (N,).
    """
    import pyarrow
    from datasets import Dataset as ArrowDataset
    from trl.data_utils import pack_dataset

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    unpacked = ArrowDataset(
        pyarrow.table(
            {
                name: pyarrow.LargeListArray.from_arrays(offsets, np.concatenate(column))
                for name, column in columns.items()
            }
        )
    )
    with _quiet():
        packed = pack_dataset(
            unpacked,
            sequence_length,
            strategy="bfd_split",
            map_kwargs={"batch_size": _DOCUMENTS_AT_ONCE, "keep_in_memory": True},
        )
    table = cast("pyarrow.Table", packed.with_format("arrow")[:]).combine_chunks()
    rows, parts = table["input_ids"].chunk(0), table["seq_lengths"].chunk(0)
    return (
        {name: table[name].chunk(0).flatten().to_numpy() for name in columns},
        rows.value_lengths().to_numpy().astype(np.int64),
        parts.flatten().to_numpy().astype(np.int64),
        parts.value_lengths().to_numpy().astype(np.int64),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the progress bars of datasets for a block."""
    from datasets import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    was_quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_quiet:
            enable_progress_bars()
