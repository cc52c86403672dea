"""The rows of an artifact of the kind `data`: written, and what is in them told.

    rows.jsonl   one JSON object a line, in standard columns (formats.py), which every `data:` and
                 `prompts:` reads by `$stage`
    rows.json    the form, the columns, how many rows, a few of them, a histogram of scores

No torch here.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.files.names import ROWS, ROWS_SUMMARY
from pipeline.store.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.stage import StageContext

# Columns that the stages themselves write beside those of the prompts' rows.
COMPLETION = ("prompt", "completion")
SAMPLED = ("source", "sample", "finish", "num_tokens")
SCORED = ("score", "scores")
PAIRED = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected")
THUMBS = (*COMPLETION, "label")
REVISED = ("original", "critique", "revised_by")  # a response before, why, and the principle
COMPARED = ("probability", "judge", "principle")  # what a judge says of a pair
_SHOWN = 6  # rows in the summary
_BINS = 20


def write_rows(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    form: DataForm,
    scores: Iterable[float | None] = (),
) -> None:
    """Write the rows and their summary.

    scores: what a histogram is drawn of; a None is none. Raises PosttrainError for a value that
    JSON does not have.
    """
    columns: dict[str, None] = {}
    with (folder / ROWS).open("w", encoding="utf-8") as stream:
        for number, row in enumerate(rows, 1):
            columns |= dict.fromkeys(row)
            try:
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
                stream.write(f"{line}\n")
            except (TypeError, ValueError) as error:
                where = f"row {number}"
                message = f"cannot be written as JSON: {error}"
                raise PosttrainError(where, message, "take the column out of the data") from error
    every = max(1, len(rows) // _SHOWN)
    numbers = [score for score in scores if score is not None]
    summary = {
        "form": form,
        "rows": len(rows),
        "columns": list(columns),
        "shown": list(rows[::every][:_SHOWN]),
        **({"histogram": histogram(numbers)} if numbers else {}),
    }
    write_json(folder / ROWS_SUMMARY, summary)


def tasks_behind(blocks: Sequence[DataBlock], context: StageContext) -> list[str]:
    """Return the tasks that the prompts of some sources are of, those of stages' rows included."""
    names: dict[str, None] = {}
    for block in blocks:
        if block.task is not None:
            names[block.task] = None
        elif block.stage is not None:
            made = context.outputs[block.stage[1:]].properties
            names |= dict.fromkeys(made.get("tasks", ()))
    return list(names)


def histogram(numbers: Sequence[float]) -> dict[str, Any]:
    """Return the counts of numbers in bins of one width, with the bins' edges.

    Few different numbers, as a verifier's 0 and 1, are counted one by one, under `values`.
    """
    different = sorted(set(numbers))
    if len(different) <= _BINS // 2:
        return {"values": different, "counts": [numbers.count(value) for value in different]}
    low, high = different[0], different[-1]
    width = (high - low) / _BINS
    counts = [0] * _BINS
    for number in numbers:
        counts[min(_BINS - 1, math.floor((number - low) / width))] += 1
    return {"edges": [low + width * number for number in range(_BINS + 1)], "counts": counts}
