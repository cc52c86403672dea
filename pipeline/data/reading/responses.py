"""Rows with a prompt and one response to it, all their columns kept: what stages judge and choose.

    prompt       a text, or a list of messages that ends with a user's turn
    completion   a text, or a list with one message of the assistant's

As TRL's standard and conversational forms have them, and as `generate` writes them. Not rows to
train on (formats.py). Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data.reading.columns import TOOLS, VARIABLES
from pipeline.data.reading.data_blocks import task_of
from pipeline.data.reading.fields import list_names, text_of
from pipeline.data.reading.formats import rename_columns
from pipeline.data.reading.messages import ROLE_CONTENT, turns_of
from pipeline.data.reading.prompts import prompt_row
from pipeline.data.reading.sources import read_rows
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.data.reading.files import Row
    from pipeline.data.reading.records import PromptRow

SOURCE, REFERENCE = "source", "reference"
_COLUMNS = ("prompt", "completion")


@dataclass(frozen=True)
class ResponseRow:
    """A response and what it answers. text: of the response. fields: all columns, under our names.

    source: where the prompt is from: its row's own column, else the data block. apart: tells it and
    its kin apart from other responses to the same prompt.
    """

    where: str
    prompt: PromptRow
    text: str
    fields: dict[str, Any]
    source: str
    apart: str = ""

    @property
    def question(self) -> str:
        """What is equal for responses to one prompt: its text, tools, and what is expected."""
        return question_of(self.fields) + self.apart


def question_of(fields: Mapping[str, Any]) -> str:
    """Return the question of a row: see `ResponseRow.question`."""
    asked = ("prompt", "system", TOOLS, VARIABLES, REFERENCE)
    named = {name: fields.get(name) for name in asked}
    return json.dumps(named, sort_keys=True, default=str)


def read_responses(
    blocks: Sequence[DataBlock], places: Places, *, written: Sequence[str] = ()
) -> Iterator[ResponseRow]:
    """Yield the rows of sources; PosttrainError for one that is not a prompt and a response.

    written: columns that the stage writes itself: a file that has one already is refused.
    """
    for block in blocks:
        for row in read_rows(block, places, task_of(block, places)):
            renamed = rename_columns(row, block.columns)
            if block.stage is None:
                refuse_columns(renamed, written)
            yield response_row(renamed, block.label)


def refuse_columns(row: Row, written: Sequence[str]) -> None:
    """Raise PosttrainError for a row that has a column which a stage writes."""
    taken = next((name for name in written if name in row.fields), None)
    if taken is not None:
        message = f"there is a column `{taken}`, and this stage writes one of that name"
        raise PosttrainError(row.where, message, "rename it in the data, or take it out")


def response_row(row: Row, label: str) -> ResponseRow:
    """Return a row with `prompt` and `completion`, checked. label: of its data."""
    for name in _COLUMNS:
        if name not in row.fields:
            message = f"no column `{name}`; {list_names('columns', row.fields)}"
            hint = "a row has a `prompt` and a `completion`; `columns: {OURS: THEIRS}` renames"
            raise PosttrainError(row.where, message, hint)
    named = row.fields.get(SOURCE)
    source = named if isinstance(named, str) else label
    return ResponseRow(row.where, prompt_row(row), _text(row), row.fields, source)


def _text(row: Row) -> str:
    value = row.fields["completion"]
    if not isinstance(value, list):
        return text_of(value, "completion", row.where, may_be_blank=True)
    turns = turns_of(value, "completion", row.where, ROLE_CONTENT, may_end_blank=True)
    *before, last = turns
    if before or last.role != "assistant" or last.calls:
        message = "`completion` is more than one message of the assistant's"
        raise PosttrainError(row.where, message, "one answer in text is judged; drop the row")
    return last.content
