"""What the columns of a row mean: a text, prompt and completion, chat, preference, or prompt.

The columns of the first row decide the form of the whole source; every row is checked:

    text                      -> TextRow
    prompt, completion        -> PromptCompletionRow: the completion continues it, no template; or
                                 ChatRow: two lists of messages, of which the second is learnt
    messages                  -> ChatRow: [{role, content}], roles system, user, assistant, tool
    conversations             -> ChatRow: ShareGPT's [{from, value}], human, gpt, function_call, ...
    instruction, output       -> ChatRow: Alpaca's, `input` (if any) after a blank line, `history`
                                 before it; only a template tells the instruction from the answer
    chosen, rejected          -> PreferenceRow: preferences.py has its seven ways
    ..., label                -> UnpairedRow: prompt and completion or a chat as above, which was
                                 wanted or not (unpaired.py); only to a stage that reads such rows

Beside a conversation, `system`, `tools` and `chat_template_kwargs` are used (columns.py). A stage
that reads prompts takes them from any of these forms, as PromptRow (prompts.py). Columns that
nothing reads are named. Imports no torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.task import Task
from pipeline.config.blocks import COLUMNS, DataBlock
from pipeline.config.field_types import DataForm
from pipeline.config.references import Places
from pipeline.data.reading import demonstrations, preferences, prompts, unpaired
from pipeline.data.reading.alpaca import HISTORY
from pipeline.data.reading.columns import LABELS, OF_CHATS, NotUsed, check_meaning
from pipeline.data.reading.fields import is_nothing, list_names
from pipeline.data.reading.files import Row
from pipeline.data.reading.records import (
    ChatRow,
    DroppedRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    PromptRow,
    Record,
    TextRow,
    UnpairedRow,
)
from pipeline.data.reading.sources import RowKind, read_rows
from pipeline.errors import PosttrainError, closest

__all__ = [
    "ChatRow",
    "DroppedRow",
    "Message",
    "PreferenceRow",
    "PromptCompletionRow",
    "PromptRow",
    "Record",
    "TextRow",
    "UnpairedRow",
    "parse_rows",
    "read_source",
]


@dataclass(frozen=True)
class _Layout:
    """The columns that make up a form, how they are read, and which are used `beside` them."""

    form: DataForm
    columns: tuple[str, ...]
    read: Callable[[Row], Record]
    beside: tuple[str, ...] = ()


def read_source(
    block: DataBlock,
    places: Places,
    *,
    forms: Sequence[DataForm],
    task: Task | None = None,
    seed: int = 0,
    held_out: bool = False,
    not_used: NotUsed | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Iterator[Record]:
    """Yield the rows of `sources.read_rows`, checked, in one of the forms that the stage reads.

    on_row: called with every row as the source has it, before it is checked.

    A task gives documents to a stage that reads only texts (or a block that says so), likewise
    pairs for preferences and prompts with references for prompts; otherwise demonstrations, as
    chats. not_used: takes note of columns that nothing reads.
    """
    if block.form == "text" and "prompt_completion" in forms:
        # Never guessed, since all of a text is trained on: the block must say so.
        forms = (*forms, "text")
    shows_chosen = block.form == "preference" and "chat" in forms and "preference" not in forms
    if shows_chosen:  # the block says so, too: the better response is a demonstration
        forms = ("preference",)
    kind: RowKind = "demonstrations"
    expected: Sequence[DataForm] = forms
    if block.task is not None and block.form is not None:
        expected = (block.form,)
    if _UNPAIRED in expected:
        kind = "preferences"  # a task has pairs, each of which is two such rows
    if len(expected) == 1:
        kind = _ROW_KIND_BY_FORM.get(expected[0], kind)
    if block.task is not None and kind == "documents" and "text" not in forms:
        message = "`form: text` is not what this stage reads"
        raise PosttrainError(block.label, message, f"it reads {_either(forms)}")
    rows_read = _show_rows(
        read_rows(block, places, task, kind=kind, seed=seed, held_out=held_out), on_row
    )
    if block.task is not None:
        return (_name_source(_TASK_READERS[kind](row), block) for row in rows_read)
    made = parse_rows(rows_read, block, forms, not_used)
    return map(_as_demonstration, made) if shows_chosen else made


def parse_rows(
    rows: Iterable[Row],
    block: DataBlock,
    forms: Sequence[DataForm],
    not_used: NotUsed | None = None,
) -> Iterator[Record]:
    """Yield rows as checked records, of the form that the first row's columns decide."""
    layout: _Layout | None = None
    for row in rows:
        renamed = rename_columns(row, block.columns)
        if layout is None:
            layout = _detect_layout(renamed, block, forms)
        missing = [name for name in layout.columns if name not in renamed.fields]
        if missing:
            message = f"no column `{missing[0]}`, which the first row has"
            others = [
                candidate.form for candidate in _layouts(forms) if _fits(candidate, renamed.fields)
            ]
            others = [form for form in others if form != layout.form]
            hint = f"one source has one form, and this row is {others[0]}" if others else ""
            raise PosttrainError(row.where, message, hint or list_names("columns", renamed.fields))
        check_meaning(renamed, layout.form)
        record = layout.read(renamed)
        _check_surroundings(renamed, record, layout)
        # The columns of prompts are all used: reward functions get them.
        if not_used is not None and layout.form != "prompt":
            not_used.add(renamed, (*layout.columns, *layout.beside))
        yield _name_source(record, block)


def _show_rows(rows: Iterable[Row], on_row: Callable[[Row], None]) -> Iterator[Row]:
    for row in rows:
        on_row(row)
        yield row


def _as_demonstration(record: Record) -> Record:
    """Return a pair's better response as a demonstration; records of any other form as they are."""
    if not isinstance(record, PreferenceRow):
        return record
    text = None if record.text is None else record.text[:2]
    if not record.prompt and text is not None:
        return PromptCompletionRow(record.where, *text)
    return ChatRow(record.where, (*record.prompt, record.turns[0]), text, record.settings)


def _name_source(record: Record, block: DataBlock) -> Record:
    """Return a prompt with the label of its source; records of any other form as they are."""
    return replace(record, source=block.label) if isinstance(record, PromptRow) else record


def _check_surroundings(row: Row, record: Record, layout: _Layout) -> None:
    """Raise PosttrainError for a column that belongs to a chat, beside a text."""
    turns: Sequence[Message] = ()
    if isinstance(record, PreferenceRow):
        turns = record.prompt
    elif isinstance(record, PromptRow):
        turns = record.messages
    elif not isinstance(
        record.answered if isinstance(record, UnpairedRow) else record, PromptCompletionRow
    ):
        return
    if turns:
        return
    for name in ("system", "tools", HISTORY):
        if not is_nothing(row.fields.get(name)):
            message = f"`{name}` belongs to a chat, and `{layout.columns[0]}` is a text to go on"
            ours = {"prompt": "instruction", "completion": "output"}
            renamed = ", ".join(
                f"{ours[column]}: {column}" for column in layout.columns if column in ours
            )
            raise PosttrainError(
                row.where, message, f"`columns: {{{renamed}}}` makes a chat of it; or take it out"
            )


def rename_columns(row: Row, columns: dict[str, str]) -> Row:
    """Return the row under our column names; columns: from our names to the file's."""
    if not columns:
        return row
    fields = dict(row.fields)
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            hint = closest(ours, COLUMNS) or f"known names: {', '.join(COLUMNS)}"
            raise PosttrainError("columns", f"`{ours}` is no column of ours", hint)
        if theirs not in row.fields:
            hint = closest(theirs, row.fields) or list_names("columns", row.fields)
            raise PosttrainError(row.where, f"no column `{theirs}` for `{ours}`", hint)
        if theirs not in columns:
            fields.pop(theirs, None)
        fields[ours] = row.fields[theirs]
    return Row(row.where, fields)


def _layouts(forms: Sequence[DataForm]) -> Sequence[_Layout]:
    """Return the layouts for a stage: to one that samples responses, columns mean prompts alone."""
    return _PROMPT_LAYOUTS if "prompt" in forms else _LAYOUTS


def _fits(layout: _Layout, fields: dict[str, Any]) -> bool:
    return all(name in fields for name in layout.columns)


def _detect_layout(row: Row, block: DataBlock, forms: Sequence[DataForm]) -> _Layout:
    if block.form is not None and block.form not in forms:
        message = f"form `{block.form}` is not what this stage reads"
        raise PosttrainError(block.label, message, f"it reads {_either(forms)}")
    layouts, expected = _layouts(forms), [block.form] if block.form else forms
    allowed = [layout for layout in layouts if layout.form in expected]
    fitting = [layout for layout in allowed if _fits(layout, row.fields)]
    mapped = [layout for layout in fitting if set(layout.columns) & set(block.columns)]
    fitting = [
        layout for layout in mapped or fitting if block.form or not _is_part(layout, row.fields)
    ]
    if len({layout.form for layout in fitting}) > 1:
        message = f"the columns fit {_either([layout.form for layout in fitting])}"
        raise PosttrainError(row.where, message, "say which with `form:`")
    if fitting:
        return fitting[0]
    raise PosttrainError(
        row.where, list_names("columns", row.fields), _what_would_fit(row, allowed)
    )


def _is_part(layout: _Layout, fields: dict[str, Any]) -> bool:
    """Whether a row fits a different form with these columns and more, as a pair's `conversations`.

    Prompts are exempt: they are part of most forms by nature. So is a column `label`, which may
    mean anything; where it is a thumb, `check_meaning` says so.
    """
    return layout.form != "prompt" and any(
        larger.form not in (layout.form, _UNPAIRED)
        and _fits(larger, fields)
        and set(layout.columns) < set(larger.columns)
        for larger in _LAYOUTS
    )


def _what_would_fit(row: Row, allowed: Sequence[_Layout]) -> str:
    fitting = [candidate for candidate in _LAYOUTS if _fits(candidate, row.fields)]
    if any(layout.form == _UNPAIRED and _fits_but_for(layout, row.fields) for layout in allowed):
        return unpaired.name_label(row.fields)
    elsewhere = [candidate.form for candidate in fitting if not _is_part(candidate, row.fields)]
    if elsewhere and allowed[0].form != "prompt":
        reads = _either([candidate.form for candidate in allowed])
        return f"this is the form {elsewhere[0]}; the stage reads {reads}"
    for layout in allowed:
        for name in layout.columns:
            near = closest(name, row.fields)
            if name not in row.fields and near:
                theirs = near.split("`")[1]
                return f"is `{theirs}` the `{name}`? then write `columns: {{{name}: {theirs}}}`"
    columns = " or ".join("+".join(candidate.columns) for candidate in allowed)
    return f"wanted: {columns}; `columns: {{OURS: THEIRS}}` renames"


def _fits_but_for(layout: _Layout, fields: dict[str, Any]) -> bool:
    """Whether a row has all columns of a layout but the last."""
    return all(name in fields for name in layout.columns[:-1])


def _either(names: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(names))


_UNPAIRED: DataForm = "unpaired_preference"
_JUDGED = ("margin", "probability")
_ALPACA = ("input", HISTORY, *OF_CHATS)
_PAIRS = (
    (("conversations", "chosen", "rejected"), preferences.conversations_row, OF_CHATS),
    (("prompt", "chosen", "rejected"), preferences.prompt_row, OF_CHATS),
    (("instruction", "chosen", "rejected"), preferences.instruction_row, _ALPACA),
    (("chosen", "rejected"), preferences.whole_row, OF_CHATS),
    (("input", "output_1", "output_2", "label"), preferences.outputs_row, OF_CHATS),
)
_COMPLETION = ("prompt", "completion")
_LAYOUTS = (
    _Layout("text", ("text",), demonstrations.text_row),
    _Layout(
        "prompt_completion",
        ("prompt", "completion"),
        demonstrations.prompt_completion_row,
        OF_CHATS,
    ),
    _Layout("chat", ("messages",), demonstrations.messages_row, OF_CHATS),
    _Layout("chat", ("conversations",), demonstrations.conversations_row, OF_CHATS),
    _Layout("chat", ("instruction", "output"), demonstrations.instruction_row, _ALPACA),
    *(
        _Layout("preference", columns, read_pair, (*beside, *_JUDGED))
        for columns, read_pair, beside in _PAIRS
    ),
    *(
        _Layout(_UNPAIRED, (*columns, label), unpaired.reader(read, label), beside)
        for columns, read, beside in (
            (_COMPLETION, demonstrations.prompt_completion_row, OF_CHATS),
            (("messages",), demonstrations.messages_row, OF_CHATS),
            (("conversations",), demonstrations.conversations_row, OF_CHATS),
            (("instruction", "output"), demonstrations.instruction_row, _ALPACA),
        )
        for label in LABELS
    ),
)
_PROMPT_LAYOUTS = (
    *(_Layout("prompt", columns, prompts.of_pairs(read_pair)) for columns, read_pair, _ in _PAIRS),
    _Layout("prompt", ("prompt",), prompts.prompt_row),
    _Layout("prompt", ("messages",), prompts.messages_row),
    _Layout("prompt", ("conversations",), prompts.conversations_row),
    _Layout("prompt", ("instruction",), prompts.instruction_row),
    _Layout("prompt", ("input_ids",), prompts.ids_row),
)
_ROW_KIND_BY_FORM: dict[DataForm, RowKind] = {
    "text": "documents",
    "preference": "preferences",
    "prompt": "prompts",
}
_TASK_READERS: dict[RowKind, Callable[[Row], Record]] = {
    "documents": demonstrations.text_row,
    "demonstrations": demonstrations.demonstration_row,
    "preferences": preferences.task_row,
    "prompts": prompts.task_row,
}
