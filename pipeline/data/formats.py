"""What the columns of a row mean: text, prompt and completion, chat, preference, prompt; checked.

The form is read off the first row's columns and holds for the whole source:

    text                      -> TextRow
    prompt, completion        -> PromptCompletionRow: the completion continues it, no template
    messages                  -> ChatRow: [{role, content}], roles system, user, assistant
    conversations             -> ChatRow: ShareGPT's [{from, value}], human, gpt, system
    instruction, output       -> ChatRow: Alpaca's, `input` (if any) after a blank line; only a
                                 template tells the instruction from the answer
    chosen, rejected          -> PreferenceRow: preferences.py has its five ways

A stage that reads prompts takes those of any of these as PromptRow (prompts.py). Other columns are
left alone. Imports no torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.task import Task
from pipeline.data import preferences, prompts
from pipeline.data.fields import (
    FROM_VALUE,
    ROLE_CONTENT,
    MessageStyle,
    names_found,
    text_of,
    turns_of,
)
from pipeline.data.files import Row
from pipeline.data.records import (
    ChatRow,
    DroppedRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    PromptRow,
    Record,
    TextRow,
)
from pipeline.data.sources import Asked, rows
from pipeline.errors import PosttrainError, closest
from pipeline.recipe.config import COLUMNS, DataBlock, DataForm
from pipeline.recipe.references import Places

__all__ = [
    "ChatRow",
    "DroppedRow",
    "Message",
    "PreferenceRow",
    "PromptCompletionRow",
    "PromptRow",
    "Record",
    "TextRow",
    "read",
    "records",
]


@dataclass(frozen=True)
class _Layout:
    """Columns that make up a form, and how they are read."""

    form: DataForm
    columns: tuple[str, ...]
    read: Callable[[Row], Record]


def read(
    block: DataBlock,
    places: Places,
    *,
    forms: Sequence[DataForm],
    task: Task | None = None,
    seed: int = 0,
    held_out: bool = False,
) -> Iterator[Record]:
    """Yield a source's rows, checked, as one of the forms that the stage reads (`sources.rows`).

    A task gives documents where text is all that is wanted or asked for, pairs where preferences
    are, prompts with references where prompts are, else demonstrations as chats. Of a prompt, the
    column `source` is the block's label.
    """
    if block.form == "text" and "prompt_completion" in forms:
        forms = (*forms, "text")  # asked for, never guessed: all of it is trained on
    asked: Asked = "demonstrations"
    wanted: Sequence[DataForm] = forms
    if block.task is not None and block.form is not None:
        wanted = (block.form,)
    if len(wanted) == 1:
        asked = _ASKED_OF_TASKS.get(wanted[0], asked)
    if block.task is not None and asked == "documents" and "text" not in forms:
        message = "`form: text` is not what this stage reads"
        raise PosttrainError(block.label, message, f"it reads {_either(forms)}")
    found = rows(block, places, task, asked=asked, seed=seed, held_out=held_out)
    if block.task is not None:
        return (_sourced(_TASK_READERS[asked](row), block) for row in found)
    return records(found, block, forms)


def records(found: Iterable[Row], block: DataBlock, forms: Sequence[DataForm]) -> Iterator[Record]:
    """Yield rows as checked records of the form that the first row's columns show."""
    layout: _Layout | None = None
    for row in found:
        renamed = _renamed(row, block.columns)
        if layout is None:
            layout = _detected(renamed, block, forms)
        missing = [name for name in layout.columns if name not in renamed.fields]
        if missing:
            message = f"no column `{missing[0]}`, which the first row has"
            others = [each.form for each in _layouts(forms) if _fits(each, renamed.fields)]
            others = [form for form in others if form != layout.form]
            hint = f"one source has one form, and this row is {others[0]}" if others else ""
            raise PosttrainError(row.where, message, hint or names_found("columns", renamed.fields))
        yield _sourced(layout.read(renamed), block)


def _sourced(record: Record, block: DataBlock) -> Record:
    """A prompt with the source that it is from; any other record as it is."""
    if not isinstance(record, PromptRow):
        return record
    return replace(record, columns={**record.columns, "source": block.label})


def _renamed(row: Row, columns: dict[str, str]) -> Row:
    """The row under our column names; `columns` maps ours to theirs."""
    if not columns:
        return row
    fields = dict(row.fields)
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            hint = closest(ours, COLUMNS) or f"known names: {', '.join(COLUMNS)}"
            raise PosttrainError("columns", f"`{ours}` is no column of ours", hint)
        if theirs not in row.fields:
            hint = closest(theirs, row.fields) or names_found("columns", row.fields)
            raise PosttrainError(row.where, f"no column `{theirs}` for `{ours}`", hint)
        if theirs not in columns:
            fields.pop(theirs, None)
        fields[ours] = row.fields[theirs]
    return Row(row.where, fields)


def _layouts(forms: Sequence[DataForm]) -> Sequence[_Layout]:
    """What columns may mean to a stage: to one that samples responses, prompts and nothing else."""
    return _PROMPT_LAYOUTS if "prompt" in forms else _LAYOUTS


def _fits(layout: _Layout, fields: dict[str, Any]) -> bool:
    return all(name in fields for name in layout.columns)


def _detected(row: Row, block: DataBlock, forms: Sequence[DataForm]) -> _Layout:
    if block.form is not None and block.form not in forms:
        message = f"form `{block.form}` is not what this stage reads"
        raise PosttrainError(block.label, message, f"it reads {_either(forms)}")
    layouts, wanted = _layouts(forms), [block.form] if block.form else forms
    allowed = [each for each in layouts if each.form in wanted]
    fitting = [each for each in allowed if _fits(each, row.fields)]
    mapped = [each for each in fitting if set(each.columns) & set(block.columns)]
    fitting = [each for each in mapped or fitting if block.form or not _is_part(each, row.fields)]
    if len({each.form for each in fitting}) > 1:
        message = f"the columns fit {_either([each.form for each in fitting])}"
        raise PosttrainError(row.where, message, "say which with `form:`")
    if fitting:
        return fitting[0]
    raise PosttrainError(
        row.where, names_found("columns", row.fields), _what_would_fit(row, allowed)
    )


def _is_part(layout: _Layout, fields: dict[str, Any]) -> bool:
    """Whether the row shows another form with these columns and more: `conversations` of a pair.

    Prompts are part of other forms by their nature.
    """
    return layout.form != "prompt" and any(
        each.form != layout.form and _fits(each, fields) and set(layout.columns) < set(each.columns)
        for each in _LAYOUTS
    )


def _what_would_fit(row: Row, allowed: Sequence[_Layout]) -> str:
    fitting = [each for each in _LAYOUTS if _fits(each, row.fields)]
    elsewhere = [each.form for each in fitting if not _is_part(each, row.fields)]
    if elsewhere and allowed[0].form != "prompt":
        reads = _either([each.form for each in allowed])
        return f"this is the form {elsewhere[0]}; the stage reads {reads}"
    for layout in allowed:
        for name in layout.columns:
            near = closest(name, row.fields)
            if name not in row.fields and near:
                theirs = near.split("`")[1]
                return f"is `{theirs}` the `{name}`? then write `columns: {{{name}: {theirs}}}`"
    wanted = " or ".join("+".join(each.columns) for each in allowed)
    return f"wanted: {wanted}; `columns: {{OURS: THEIRS}}` renames"


def _either(names: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _text_row(row: Row) -> TextRow:
    return TextRow(row.where, text_of(row.fields["text"], "text", row.where))


def _prompt_completion_row(row: Row) -> PromptCompletionRow:
    fields = row.fields
    if isinstance(fields["prompt"], list) and isinstance(fields["completion"], list):
        hint = "join both lists in a column `messages`"
        raise PosttrainError(row.where, "`prompt` and `completion` are lists of messages", hint)
    prompt = text_of(fields["prompt"], "prompt", row.where)
    return PromptCompletionRow(
        row.where, prompt, text_of(fields["completion"], "completion", row.where)
    )


def _instruction_row(row: Row) -> ChatRow:
    prompt = prompts.instruction_of(row)
    answer = text_of(row.fields["output"], "output", row.where)
    return ChatRow(row.where, (Message("user", prompt), Message("assistant", answer)))


def _messages_row(row: Row) -> ChatRow:
    return _chat_row(row, "messages", ROLE_CONTENT)


def _conversations_row(row: Row) -> ChatRow:
    return _chat_row(row, "conversations", FROM_VALUE)


def _demonstration_row(row: Row) -> ChatRow:
    """A task's demonstration; a task may leave its document form blank."""
    texts = [
        text_of(row.fields[name], name, row.where, may_be_blank=True)
        for name in ("document", "continuation")
    ]
    text = (texts[0], texts[1]) if all(each.strip() for each in texts) else None
    return ChatRow(row.where, _messages_row(row).messages, text)


def _chat_row(row: Row, column: str, style: MessageStyle) -> ChatRow:
    found = turns_of(row.fields[column], column, row.where, style)
    if all(each.role != "assistant" for each in found):
        message = f"`{column}` has no assistant turn"
        raise PosttrainError(row.where, message, "there is nothing to learn from it; drop the row")
    if found[-1].role != "assistant":
        message = f"`{column}` ends with a {found[-1].role} turn"
        hint = "the last turn is the assistant's; cut the rest off"
        raise PosttrainError(row.where, message, hint)
    return ChatRow(row.where, found)


_PAIRS = (
    (("conversations", "chosen", "rejected"), preferences.conversations_row),
    (("prompt", "chosen", "rejected"), preferences.prompt_row),
    (("chosen", "rejected"), preferences.whole_row),
)
_LAYOUTS = (
    _Layout("text", ("text",), _text_row),
    _Layout("prompt_completion", ("prompt", "completion"), _prompt_completion_row),
    _Layout("chat", ("messages",), _messages_row),
    _Layout("chat", ("conversations",), _conversations_row),
    _Layout("chat", ("instruction", "output"), _instruction_row),
    *(_Layout("preference", columns, read_pair) for columns, read_pair in _PAIRS),
)
_PROMPT_LAYOUTS = (
    *(_Layout("prompt", columns, prompts.of_pairs(read_pair)) for columns, read_pair in _PAIRS),
    _Layout("prompt", ("prompt",), prompts.prompt_row),
    _Layout("prompt", ("messages",), prompts.messages_row),
    _Layout("prompt", ("conversations",), prompts.conversations_row),
    _Layout("prompt", ("instruction",), prompts.instruction_row),
    _Layout("prompt", ("input_ids",), prompts.ids_row),
)
_ASKED_OF_TASKS: dict[DataForm, Asked] = {
    "text": "documents",
    "preference": "preferences",
    "prompt": "prompts",
}
_TASK_READERS: dict[Asked, Callable[[Row], Record]] = {
    "documents": _text_row,
    "demonstrations": _demonstration_row,
    "preferences": preferences.task_row,
    "prompts": prompts.task_row,
}
