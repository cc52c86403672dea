"""Alpaca's columns as turns: `instruction`, `input` below it, `history` before it, `system`.

With `output` they are a demonstration (formats.py), with `chosen` and `rejected` a preference
(preferences.py), on their own a prompt (prompts.py). Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.data.reading.columns import with_system
from pipeline.data.reading.fields import is_nothing, text_of
from pipeline.data.reading.files import kind_of
from pipeline.data.reading.records import Message
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.data.reading.files import Row

HISTORY = "history"


def instruction_turns(row: Row) -> tuple[Message, ...]:
    """Return Alpaca's instruction as a user's turn, after its system turn and history."""
    question = Message("user", _instruction(row))
    return with_system(row, (*_history(row), question))


def _instruction(row: Row) -> str:
    """Return Alpaca's instruction with its `input` below it."""
    prompt = text_of(row.fields["instruction"], "instruction", row.where)
    context = row.fields.get("input")
    if context is not None:
        context = text_of(context, "input", row.where, may_be_blank=True)
    return f"{prompt}\n\n{context}" if context and context.strip() else prompt


def _history(row: Row) -> tuple[Message, ...]:
    """Return the turns in Alpaca's `history`: pairs of a question and its answer."""
    value = row.fields.get(HISTORY)
    if is_nothing(value):
        return ()
    hint = "it is a list of pairs: [[question, answer], ...]"
    if not isinstance(value, list):
        raise PosttrainError(row.where, f"`{HISTORY}` is {kind_of(value)}, not a list", hint)
    turns: list[Message] = []
    for number, pair in enumerate(cast("list[Any]", value)):
        field = f"{HISTORY}[{number}]"
        if not isinstance(pair, list) or len(cast("list[Any]", pair)) != 2:
            raise PosttrainError(row.where, f"`{field}` is no pair", hint)
        question, answered = (
            text_of(text, f"{field}[{place}]", row.where)
            for place, text in enumerate(cast("list[Any]", pair))
        )
        turns += [Message("user", question), Message("assistant", answered)]
    return tuple(turns)
