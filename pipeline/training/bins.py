"""A batch's rows laid end to end in as few lines as hold them, instead of padded one by one.

The rows do not see each other and the loss is the same, up to the order of a sum; rows of mixed
lengths leave half of a padded batch empty. Not packing of a data set: `batch_size` still counts
rows, and which rows make a batch does not change. Masks: see pipeline/data/encoding/packing.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pipeline.data.encoding.examples import IGNORED
from pipeline.data.encoding.packing import OWNER
from pipeline.models.probe import keeps_rows_apart, sees_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel


class Bins:
    """A collator of {input_ids, labels} into lines as long as the longest row."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return input_ids, labels, position_ids and OWNER, each (lines, longest row)."""
        lengths = [len(example["input_ids"]) for example in examples]
        lines = _lines(lengths)
        shape = (len(lines), max(lengths))
        input_ids = torch.full(shape, self._pad)
        labels = torch.full(shape, IGNORED)
        positions = torch.zeros(shape, dtype=torch.long)
        owner = torch.full(shape, -1)  # -1 in the padding
        for line, numbers in enumerate(lines):
            start = 0
            for number in numbers:
                place = slice(start, start + lengths[number])
                input_ids[line, place] = torch.tensor(examples[number]["input_ids"])
                labels[line, place] = torch.tensor(examples[number]["labels"])
                labels[line, start] = IGNORED  # the token before it is another row's
                positions[line, place] = torch.arange(lengths[number])
                owner[line, place] = number
                start = place.stop
            # The padding counts from 0, and so is masked off as one more row.
            positions[line, start:] = torch.arange(shape[1] - start)
        return {
            "input_ids": input_ids,
            "labels": labels,
            "position_ids": positions,
            OWNER: owner,
            "use_cache": False,  # with a cache transformers makes a plain causal mask
        }


def why_padded(module: PreTrainedModel, *, longest: int) -> str | None:
    """Return why rows are padded instead, as the metrics say it; None where bins are right.

    longest: tokens of the longest row. On a GPU the fast attention kernels take padded rows.
    """
    if module.device.type != "cpu":
        return f"as suits a {module.device.type} device"
    return None if keeps_rows_apart(module, line_length=longest) else f"since {sees_rows(module)}"


def _lines(lengths: Sequence[int]) -> list[list[int]]:
    """Return the rows' numbers line by line: longest first, each to the first line with room."""
    longest = max(lengths)
    lines: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        line = next((n for n, left in enumerate(room) if left >= lengths[number]), len(lines))
        if line == len(lines):
            lines.append([])
            room.append(longest)
        lines[line].append(number)
        room[line] -= lengths[number]
    return lines
