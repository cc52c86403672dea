"""One document per row, padded on the right: for models that see across the borders of packed ones.

Not packing (packing.py), whose rows are full. Both cut long documents at the same places, so the
tokens that are predicted, and the loss over all of them, are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset

from pipeline.data.documents import IGNORED
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.data.documents import Documents


@dataclass(frozen=True)
class PaddedRows:
    """parts: (L,) documents, or parts of one longer than a row, of two tokens or more."""

    parts: Documents
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def num_loss_tokens(self) -> int:
        """How many tokens are predicted."""
        return int(self.parts.lengths.sum()) - len(self.parts)

    @property
    def padding_share(self) -> float:
        """The share of padding if all rows were as long as the longest; short batches have less."""
        return padding_share(self.parts.lengths.tolist())

    def dataset(self) -> PaddedDataset:
        """Return the rows for a trainer."""
        return PaddedDataset(self)

    def collate(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor | bool]:
        """Stack rows, padded on the right to the longest, to (B, T), with `use_cache` off.

        There are no position ids: models count positions from the mask or from the left, and
        padding on the right changes neither.
        """
        width = max(len(row["input_ids"]) for row in rows)

        def stack(name: str, filling: int) -> torch.Tensor:
            padded = torch.full((len(rows), width), filling)
            for place, row in zip(padded, rows, strict=True):
                place[: len(row[name])] = row[name]
            return padded

        batch = {
            "input_ids": stack("input_ids", self.pad_token_id),
            "attention_mask": stack("attention_mask", 0),
            "labels": stack("labels", IGNORED),
        }
        return {**batch, "use_cache": False}


class PaddedDataset(Dataset[dict[str, torch.Tensor]]):
    """Rows of different lengths, one document or part each."""

    def __init__(self, rows: PaddedRows) -> None:
        self._parts = rows.parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self._parts[number]).long()
        # Nothing predicts a row's first token. Upstream counts it nevertheless where the class of a
        # model is not named like a causal model's (GPT-1).
        labels = torch.cat([torch.tensor([IGNORED]), ids[1:]])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": labels,
            "row": torch.tensor(number),
        }


def padding_share(lengths: Sequence[int]) -> float:
    """Return the share of padding in rows of these lengths, all padded to the longest."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


def pad(documents: Documents, *, sequence_length: int, pad_token_id: int) -> PaddedRows:
    """Give every document a row of its own; one longer than a row is cut where packing cuts it.

    A part of one token predicts nothing and is left out.
    """
    parts, _ = documents.split(sequence_length, fewest=2)
    if not len(parts):
        raise PosttrainError("", "there are no documents of two tokens or more")
    return PaddedRows(parts, pad_token_id)
