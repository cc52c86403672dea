"""Documents packed into rows of one length (T), so that no document sees another.

A transformers model that gets position ids and no attention mask makes a block-diagonal mask
itself, with a new block wherever positions begin anew (masking_utils.find_packed_sequence_indices).
Passing an attention mask, even one of ones, switches that off, and so does a key-value cache. Each
architecture is tried out before it trains (pipeline/models/probe.py); those that do not keep
documents apart get padded rows instead (padding.py).

Which documents make a row is decided by their lengths alone, as TRL's `bfd_split` does (best fit
decreasing); a row is put together when it is asked for, so that packing copies no token.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.data.documents import IGNORED
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pipeline.data.documents import Documents

OWNER = "owner"  # which of a batch's rows a token belongs to; -1 in the padding
# How many documents are packed together: more fill rows no better, and would sort the whole mix by
# length, since best fit takes the longest first.
_DOCUMENTS_AT_ONCE = 8_192


@dataclass(frozen=True)
class PackedRows:
    """N packed rows of T tokens.

    parts: (P,) documents, or parts of longer ones, row after row. owners: (P,), the number of the
    document that each part is of. ends: (N,), how many parts there are up to a row's end.
    """

    parts: Documents
    owners: NDArray[np.int64]
    ends: NDArray[np.int64]
    sequence_length: int
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def num_loss_tokens(self) -> int:
        """How many tokens are predicted: all that are learnt, but for the first of a part."""
        trained = self.parts.trained
        if trained is None:
            return int(self.parts.lengths.sum()) - len(self.parts)
        stretches = zip(self.parts.starts.tolist(), self.parts.lengths.tolist(), strict=True)
        return sum(int(trained[start + 1 : start + n].sum()) for start, n in stretches)

    @property
    def padding_share(self) -> float:
        """The share of padding among the N x T places."""
        return 1 - float(self.parts.lengths.sum()) / (len(self) * self.sequence_length)

    def members(self, number: int) -> list[int]:
        """Return the numbers of the documents in a row, in order."""
        return self.owners[self._parts_of(number)].tolist()

    def row(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Return ids, position ids and labels (T,), and how many tokens are no padding.

        Positions begin at 0 with every document, and again with the padding at a row's end. Labels
        are IGNORED in the padding and at a document's first token, which the last token of another
        document would predict.
        """
        ids = np.full(self.sequence_length, self.pad_token_id, dtype=np.int64)
        labels = np.full(self.sequence_length, IGNORED, dtype=np.int64)
        positions = np.empty(self.sequence_length, dtype=np.int64)
        which, at = self._parts_of(number), 0
        tokens, trained = self.parts.tokens, self.parts.trained
        starts, lengths = self.parts.starts[which].tolist(), self.parts.lengths[which].tolist()
        for start, length in zip(starts, lengths, strict=True):
            end = at + length
            ids[at:end] = tokens[start : start + length]
            positions[at:end] = self._counted[:length]
            labels[at + 1 : end] = ids[at + 1 : end]
            if trained is not None:
                labels[at:end][~trained[start : start + length]] = IGNORED
            at = end
        positions[at:] = self._counted[: self.sequence_length - at]
        return torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(labels), at

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

    @cached_property
    def _counted(self) -> NDArray[np.int64]:
        return np.arange(self.sequence_length)

    def _parts_of(self, number: int) -> slice:
        return slice(int(self.ends[number - 1]) if number else 0, int(self.ends[number]))


class PackedDataset(Dataset[dict[str, torch.Tensor]]):
    """Packed rows for a trainer, without an attention mask on purpose."""

    def __init__(self, packed: PackedRows) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        ids, positions, labels, _ = self._packed.row(number)
        columns = {"input_ids": ids, "position_ids": positions, "labels": labels}
        return {**columns, "row": torch.tensor(number)}


def pack(documents: Documents, *, sequence_length: int, pad_token_id: int) -> PackedRows:
    """Pack documents by best fit; one longer than a row is split into parts that are kept apart."""
    if documents.lengths.sum() == 0:
        raise PosttrainError("", "there are no documents to pack")
    order: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    parts, owners = documents.split(sequence_length)
    firsts = np.searchsorted(owners, np.arange(0, len(documents), _DOCUMENTS_AT_ONCE))
    for first, end in zip(firsts, [*firsts[1:], len(parts)], strict=True):
        rows = _best_fit(parts.lengths[first:end], sequence_length)
        order += [first + np.array(row, dtype=np.int64) for row in rows]
        ends.append(np.array([len(row) for row in rows], dtype=np.int64))
    in_rows = np.concatenate(order)
    return PackedRows(
        parts.in_order(in_rows),
        owners[in_rows],
        np.cumsum(np.concatenate(ends)),
        sequence_length,
        pad_token_id,
    )


def _best_fit(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Return the numbers of the parts in every row: longest first, each where least room is left.

    lengths: (P,), from 1 to `room`. Of rows with as little room left, the first to have had it.
    """
    rows: list[list[int]] = []
    rows_by_space: defaultdict[int, deque[list[int]]] = defaultdict(deque)
    spaces = 0  # bit s is set where a row has s places left
    order = np.argsort(-lengths, kind="stable").tolist()
    for number, length in zip(order, lengths[order].tolist(), strict=True):
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            waiting = rows_by_space[space]
            row = waiting.popleft()
            if not waiting:
                spaces ^= 1 << space
        else:
            space, row = room, []
            rows.append(row)
        row.append(number)
        if space > length:
            rows_by_space[space - length].append(row)
            spaces |= 1 << (space - length)
    return rows
