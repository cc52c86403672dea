"""How the rows of supervised training become batches: packed in lines, end to end, or padded.

All layouts hold the same rows and predict the same tokens, so the loss over all rows is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.data.documents import IGNORED, Documents, TokenFile
from pipeline.data.encoding.packing import OWNER, pack
from pipeline.data.encoding.padding import padding_share
from pipeline.data.encoding.row_table import LENGTH, dataset_of
from pipeline.errors import PosttrainError
from pipeline.models.probe import keeps_rows_apart, sees_rows
from pipeline.training.bins import Bins, why_padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from transformers import PreTrainedModel

    from pipeline.data.encoding.examples import EncodedExample
    from pipeline.data.encoding.packing import PackedRows
    from pipeline.data.encoding.row_table import RowTable

_LINE = 1024  # tokens of a packed line of which the recipe says no length; TRL's default


@dataclass(frozen=True)
class Layout:
    """train, held_out: for a trainer; held_out is None where there is nothing to evaluate.

    collate: of both; None for the trainer's own, which pads. names: of each item of `train`.
    metrics: how the rows are laid out.
    """

    train: Any
    held_out: Any
    collate: Callable[..., Any] | None
    names: Sequence[str]
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])


def lay_row_by_row(
    examples: RowTable[EncodedExample],
    held_out: RowTable[EncodedExample] | None,
    module: PreTrainedModel,
    pad_token_id: int,
) -> Layout:
    """Lay out rows one per item; a batch is laid end to end where the model keeps rows apart."""
    tables = [examples, *([] if held_out is None else [held_out])]
    lengths = np.concatenate([table.lengths for table in tables])
    padded = why_padded(module, longest=int(lengths.max()))
    return Layout(
        _dataset(examples),
        None if held_out is None else _dataset(held_out),
        Bins(pad_token_id) if padded is None else None,
        examples.names,
        {"packing": "in bins"}
        if padded is None
        else {
            "packing": f"padded, {padded}",
            "padding_share": round(padding_share(lengths.tolist()), 4),
        },
    )


def pack_in_lines(
    examples: RowTable[EncodedExample],
    held_out: RowTable[EncodedExample] | None,
    pad_token_id: int,
    line_length: int,
) -> Layout:
    """Lay out several rows in each line; a model must keep them apart (`check_packing`)."""
    lines = _pack(examples, line_length, pad_token_id)
    return Layout(
        _lines(lines),
        None if held_out is None else _lines(_pack(held_out, line_length, pad_token_id)),
        lines.collate_lines,
        _LineNames(examples.names, lines),
        {
            "packing": f"packed: {len(examples)} rows in {len(lines)} lines of {line_length}",
            "padding_share": round(lines.padding_share, 4),
        },
    )


def line_length(max_length: int | None, longest: int, positions: int | None) -> int:
    """Return how long packed lines are.

    max_length: as the recipe says it. longest: row. positions: of the model, None without an end.
    """
    if max_length is not None:
        return max_length
    return max(longest, _LINE if positions is None else min(_LINE, positions))


def check_packing(name: str, module: Any, line_length: int) -> None:
    """Raise PosttrainError where a model would see the other rows of a line."""
    if not keeps_rows_apart(module, line_length=line_length):
        hint = "leave `packing` out: a batch's rows are then padded"
        raise PosttrainError(f"{name}: packing", sees_rows(module), hint)


class _LineNames(Sequence[str]):
    """The places of the rows of each line, read one by one."""

    def __init__(self, names: Sequence[str], lines: PackedRows) -> None:
        self._names, self._lines = names, lines

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, line: Any) -> Any:
        return ", ".join(self._names[number] for number in self._lines.members(line))


def _dataset(examples: RowTable[EncodedExample]) -> Dataset:
    return dataset_of(examples.table.select(["input_ids", "labels", LENGTH]))


def _lines(packed: PackedRows) -> Dataset:
    """Return packed rows as upstream takes them, in tensors; OWNER is 0, in the padding -1."""
    from datasets import Dataset

    def put_together(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        lines: dict[str, list[Any]] = {}
        for number in batch["row"]:
            ids, positions, labels, length = packed.row(number)
            owner = torch.zeros_like(ids)
            owner[length:] = -1
            columns = (ids, positions, labels, owner, torch.tensor(number))
            names = ("input_ids", "position_ids", "labels", OWNER, "row")
            for name, column in zip(names, columns, strict=True):
                lines.setdefault(name, []).append(column)
        return lines

    return Dataset.from_dict({"row": range(len(packed))}).with_transform(put_together)


def _pack(examples: RowTable[EncodedExample], line_length: int, pad_token_id: int) -> PackedRows:
    documents = _documents(examples)
    return pack(documents, sequence_length=line_length, pad_token_id=pad_token_id)


def _documents(examples: RowTable[EncodedExample]) -> Documents:
    """Lay rows end to end, in files without a name."""
    with TemporaryFile() as of_ids, TemporaryFile() as of_trained:
        ids, trained = TokenFile(of_ids, np.uint32), TokenFile(of_trained, np.bool_)
        for batch in examples.table.select(["input_ids", "labels"]).to_batches():
            ids.append(batch.column("input_ids").flatten().to_numpy())
            trained.append(batch.column("labels").flatten().to_numpy() != IGNORED)
        lengths = examples.lengths
        starts = np.cumsum(lengths) - lengths
        return Documents(ids.tokens(), starts, lengths, trained.tokens())
