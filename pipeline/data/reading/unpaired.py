"""Rows of the form unpaired_preference: an answer, and whether it was wanted (thumbs up or down).

Columns as demonstrations.py reads them, and beside them `label` (TRL's name) or `kto_tag`
(LLaMA-Factory's): true or false, 1 or 0, as a number or a text. Of a chat, the last turn is what
was judged. A row without a label (null: nobody has judged it) and one with an empty answer are
dropped and counted; any other label is an error. Imports no torch.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

from pipeline.data.reading.fields import is_nothing
from pipeline.data.reading.files import Row
from pipeline.data.reading.records import (
    ChatRow,
    DroppedRow,
    PromptCompletionRow,
    UnpairedRow,
)
from pipeline.errors import PosttrainError

_MEANING = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_IT_IS = "it is true for an answer that was wanted, false for one that was not (or 1 and 0)"
# What others call it; never taken without being told, since a rating may have more than two values.
_OTHER_NAMES = ("thumb", "liked", "desirable", "feedback", "rating", "wanted", "good", "score")


def reader(
    read: Callable[[Row], PromptCompletionRow | ChatRow], label: str
) -> Callable[[Row], UnpairedRow | DroppedRow]:
    """Return a reader of answers that were judged. read: of the same row as a demonstration."""

    def unpaired_row(row: Row) -> UnpairedRow | DroppedRow:
        is_desirable = _read_label(row, label)
        if is_desirable is None:
            return DroppedRow(row.where, "it has no label")
        if _has_empty_answer(row):
            return DroppedRow(row.where, "a response is empty")
        return UnpairedRow(read(row), is_desirable)

    return unpaired_row


def meaning_of(label: Any) -> bool | None:
    """Return whether a label says that an answer was wanted; None for what is no such label."""
    return _MEANING.get(str(label).strip().lower())


def name_label(names: Iterable[str]) -> str:
    """Return what to write where a row has an answer and no column that judges it."""
    near = [name for name in names if any(part in name.lower() for part in _OTHER_NAMES)]
    theirs = near[0] if near else "THEIRS"
    return f"no column says whether an answer was wanted; `columns: {{label: {theirs}}}` names it"


def _read_label(row: Row, column: str) -> bool | None:
    """Return whether the answer was wanted; None where nobody has said."""
    value = row.fields[column]
    if is_nothing(value):
        return None
    meaning = meaning_of(value)
    if meaning is None:
        raise PosttrainError(row.where, f"`{column}` is {value!r:.40}", _IT_IS)
    return meaning


def _has_empty_answer(row: Row) -> bool:
    """Whether the answer that was judged is a text without anything in it."""
    for name in ("completion", "output", "messages", "conversations"):
        answer: Any = row.fields.get(name)
        if isinstance(answer, list) and answer:
            last = cast("list[Any]", answer)[-1]
            if not isinstance(last, dict) or last.get("tool_calls"):  # pyright: ignore[reportUnknownMemberType]
                return False
            turn = cast("dict[str, Any]", last)
            answer = turn.get("content", turn.get("value"))
        if isinstance(answer, str) and not answer.strip():
            return True
    return False
