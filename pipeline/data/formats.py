"""What the columns of a row mean: text, prompt and completion, or a chat; every field checked.

The form is read off the first row's columns and holds for the whole source:

    text                      -> TextRow
    prompt, completion        -> PromptCompletionRow: the completion continues it, no template
    messages                  -> ChatRow: [{role, content}], roles system, user, assistant
    conversations             -> ChatRow: ShareGPT's [{from, value}], human, gpt, system
    instruction, output       -> ChatRow: Alpaca's, `input` (if any) after a blank line; only a
                                 template tells the instruction from the answer

Other columns are left alone. Imports no torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from eval.task import Task
from pipeline.data.files import Row, kind_of
from pipeline.data.sources import rows
from pipeline.errors import PosttrainError, closest
from pipeline.recipe.config import COLUMNS, DataBlock, DataForm
from pipeline.recipe.references import Places

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn; also a `Turn` as eval/model.py has it."""

    role: Role
    content: str


@dataclass(frozen=True)
class TextRow:
    """A document."""

    where: str
    text: str


@dataclass(frozen=True)
class PromptCompletionRow:
    """A text and how it goes on; the completion begins with its own white space."""

    where: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class ChatRow:
    """A conversation whose last turn is the assistant's."""

    where: str
    messages: tuple[Message, ...]


Record = TextRow | PromptCompletionRow | ChatRow


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

    A task gives documents where text is all that is wanted, else demonstrations as chats.
    """
    asked = "documents" if tuple(forms) == ("text",) else "demonstrations"
    found = rows(block, places, task, asked=asked, seed=seed, held_out=held_out)
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
            others = [each for each in _LAYOUTS if _fits(each, renamed.fields)]
            hint = f"one source has one form, and this row is {others[0].form}" if others else ""
            raise PosttrainError(row.where, message, hint or _columns_found(renamed.fields))
        yield layout.read(renamed)


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
            hint = closest(theirs, row.fields) or _columns_found(row.fields)
            raise PosttrainError(row.where, f"no column `{theirs}` for `{ours}`", hint)
        if theirs not in columns:
            fields.pop(theirs, None)
        fields[ours] = row.fields[theirs]
    return Row(row.where, fields)


def _fits(layout: _Layout, fields: dict[str, Any]) -> bool:
    return all(name in fields for name in layout.columns)


def _detected(row: Row, block: DataBlock, forms: Sequence[DataForm]) -> _Layout:
    if block.form is not None and block.form not in forms:
        message = f"form `{block.form}` is not what this stage reads"
        raise PosttrainError(block.label, message, f"it reads {_either(forms)}")
    allowed = [each for each in _LAYOUTS if each.form in ([block.form] if block.form else forms)]
    fitting = [each for each in allowed if _fits(each, row.fields)]
    mapped = [each for each in fitting if set(each.columns) & set(block.columns)]
    fitting = mapped or fitting
    if len({each.form for each in fitting}) > 1:
        message = f"the columns fit {_either([each.form for each in fitting])}"
        raise PosttrainError(row.where, message, "say which with `form:`")
    if fitting:
        return fitting[0]
    raise PosttrainError(row.where, _columns_found(row.fields), _what_would_fit(row, allowed))


def _what_would_fit(row: Row, allowed: Sequence[_Layout]) -> str:
    elsewhere = [each.form for each in _LAYOUTS if _fits(each, row.fields)]
    if elsewhere:
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


def _columns_found(fields: dict[str, Any]) -> str:
    return f"columns found: {', '.join(f'`{name}`' for name in fields) or 'none'}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _text(value: Any, field: str, where: str, *, may_be_blank: bool = False) -> str:
    """A field that must be text that can be encoded, and not blank."""
    if not isinstance(value, str):
        raise PosttrainError(where, f"`{field}` is {kind_of(value)}, not text")
    if not may_be_blank and not value.strip():
        said = "only white space" if value else "empty"
        raise PosttrainError(where, f"`{field}` is {said}", "fill it or drop the row")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = f"`{field}` has half a character (a lone surrogate) at {error.start}"
            raise PosttrainError(where, message, "repair the text") from error
    return value


def _text_row(row: Row) -> TextRow:
    return TextRow(row.where, _text(row.fields["text"], "text", row.where))


def _prompt_completion_row(row: Row) -> PromptCompletionRow:
    fields = row.fields
    if isinstance(fields["prompt"], list) and isinstance(fields["completion"], list):
        hint = "join both lists in a column `messages`"
        raise PosttrainError(row.where, "`prompt` and `completion` are lists of messages", hint)
    prompt = _text(fields["prompt"], "prompt", row.where)
    return PromptCompletionRow(
        row.where, prompt, _text(fields["completion"], "completion", row.where)
    )


def _instruction_row(row: Row) -> ChatRow:
    prompt = _text(row.fields["instruction"], "instruction", row.where)
    context = row.fields.get("input")
    if context is not None:
        context = _text(context, "input", row.where, may_be_blank=True)
    if context and context.strip():
        prompt = f"{prompt}\n\n{context}"
    answer = _text(row.fields["output"], "output", row.where)
    return ChatRow(row.where, (Message("user", prompt), Message("assistant", answer)))


def _messages_row(row: Row) -> ChatRow:
    roles = {"system": "system", "user": "user", "assistant": "assistant"}
    return _chat_row(row, "messages", ("role", "content"), cast("dict[str, Role]", roles))


def _conversations_row(row: Row) -> ChatRow:
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    roles |= {"user": "user", "assistant": "assistant"}
    return _chat_row(row, "conversations", ("from", "value"), cast("dict[str, Role]", roles))


def _chat_row(row: Row, column: str, keys: tuple[str, str], roles: dict[str, Role]) -> ChatRow:
    turns = row.fields[column]
    if not isinstance(turns, list):
        hint = f"it is a list of {{{keys[0]}, {keys[1]}}}"
        raise PosttrainError(row.where, f"`{column}` is {kind_of(turns)}, not a list", hint)
    if not turns:
        raise PosttrainError(row.where, f"`{column}` is an empty list", "drop the row")
    found = tuple(
        _message(turn, f"{column}[{number}]", row.where, keys, roles)
        for number, turn in enumerate(cast("list[Any]", turns))
    )
    _check_order(found, column, row.where)
    return ChatRow(row.where, found)


def _message(
    turn: Any, field: str, where: str, keys: tuple[str, str], roles: dict[str, Role]
) -> Message:
    if not isinstance(turn, dict):
        raise PosttrainError(where, f"`{field}` is {kind_of(turn)}, not an object")
    turn = cast("dict[str, Any]", turn)
    for key in keys:
        if key not in turn:
            hint = closest(key, turn) or _columns_found(turn).replace("columns", "keys")
            raise PosttrainError(where, f"`{field}` has no `{key}`", hint)
    if turn.get("tool_calls") or turn.get("function_call"):
        raise PosttrainError(where, f"`{field}` calls a tool", "tool calls are not supported")
    name = _text(turn[keys[0]], f"{field}.{keys[0]}", where)
    if name not in roles:
        hint = closest(name, roles) or f"known roles: {', '.join(roles)}"
        raise PosttrainError(where, f"`{field}` has the unknown role `{name:.40}`", hint)
    role = roles[name]
    content = turn[keys[1]]
    return Message(role, _text(content, f"{field}.{keys[1]}", where, may_be_blank=role == "system"))


def _check_order(messages: tuple[Message, ...], column: str, where: str) -> None:
    systems = [number for number, each in enumerate(messages) if each.role == "system"]
    if len(systems) > 1:
        raise PosttrainError(where, f"`{column}` has {len(systems)} system turns", "join them")
    if systems and systems[0] != 0:
        message = f"`{column}[{systems[0]}]` is a system turn"
        raise PosttrainError(where, message, "a system turn comes first")
    if all(each.role != "assistant" for each in messages):
        message = f"`{column}` has no assistant turn"
        raise PosttrainError(where, message, "there is nothing to learn from it; drop the row")
    if messages[-1].role != "assistant":
        message = f"`{column}` ends with a {messages[-1].role} turn"
        raise PosttrainError(where, message, "the last turn is the assistant's; cut the rest off")


_LAYOUTS = (
    _Layout("text", ("text",), _text_row),
    _Layout("prompt_completion", ("prompt", "completion"), _prompt_completion_row),
    _Layout("chat", ("messages",), _messages_row),
    _Layout("chat", ("conversations",), _conversations_row),
    _Layout("chat", ("instruction", "output"), _instruction_row),
)
