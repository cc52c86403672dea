"""Rows to learn by heart: a text, a prompt and its completion, a chat; by the columns they have.

    text                  all of it is learnt
    prompt, completion    two texts, of which the second continues the first; or two lists of
                          messages, of which the second is learnt
    messages              [{role, content}]
    conversations         ShareGPT's [{from, value}]
    instruction, output   Alpaca's, `input` (if any) after a blank line, `history` before it

formats.py says which source has which. Imports no torch.
"""

from dataclasses import replace

from pipeline.data.reading.alpaca import instruction_turns
from pipeline.data.reading.columns import drop_filled_nulls, settings_of, with_system
from pipeline.data.reading.fields import text_of
from pipeline.data.reading.files import Row
from pipeline.data.reading.messages import FROM_VALUE, ROLE_CONTENT, MessageStyle, turns_of
from pipeline.data.reading.records import ChatRow, Message, PromptCompletionRow, TextRow
from pipeline.errors import PosttrainError


def text_row(row: Row) -> TextRow:
    """Read `text`."""
    return TextRow(row.where, text_of(row.fields["text"], "text", row.where))


def prompt_completion_row(row: Row) -> PromptCompletionRow | ChatRow:
    """Read `prompt` and `completion`: two texts, or two lists of messages."""
    fields = row.fields
    if isinstance(fields["prompt"], list) and isinstance(fields["completion"], list):
        return _turns_row(row)
    prompt = text_of(fields["prompt"], "prompt", row.where)
    return PromptCompletionRow(
        row.where, prompt, text_of(fields["completion"], "completion", row.where)
    )


def _turns_row(row: Row) -> ChatRow:
    """Read a conversation in two lists (TRL's conversational form); the second is learnt."""
    prompt = turns_of(row.fields["prompt"], "prompt", row.where, ROLE_CONTENT)
    completion = turns_of(row.fields["completion"], "completion", row.where, ROLE_CONTENT)
    prompt = tuple(replace(message, is_trained=False) for message in prompt)
    return _as_chat(row, (*prompt, *completion), "completion")


def instruction_row(row: Row) -> ChatRow:
    """Read Alpaca's `instruction` (`input`, `history`) and `output`."""
    answer = text_of(row.fields["output"], "output", row.where)
    turns = (*instruction_turns(row), Message("assistant", answer))
    return ChatRow(row.where, turns, settings=settings_of(row))


def messages_row(row: Row) -> ChatRow:
    """Read `messages`."""
    return _chat_row(row, "messages", ROLE_CONTENT)


def conversations_row(row: Row) -> ChatRow:
    """Read ShareGPT's `conversations`."""
    return _chat_row(row, "conversations", FROM_VALUE)


def demonstration_row(row: Row) -> ChatRow:
    """Read a task's demonstration; a task may leave its document form blank."""
    texts = [
        text_of(row.fields[name], name, row.where, may_be_blank=True)
        for name in ("document", "continuation")
    ]
    text = (texts[0], texts[1]) if all(part.strip() for part in texts) else None
    return replace(messages_row(row), text=text)


def _chat_row(row: Row, column: str, style: MessageStyle) -> ChatRow:
    return _as_chat(row, turns_of(row.fields[column], column, row.where, style), column)


def _as_chat(row: Row, turns: tuple[Message, ...], column: str) -> ChatRow:
    if all(turn.role != "assistant" for turn in turns):
        message = f"`{column}` has no assistant turn"
        raise PosttrainError(row.where, message, "there is nothing to learn from it; drop the row")
    if turns[-1].role != "assistant":
        message = f"`{column}` ends with a {turns[-1].role} turn"
        hint = "the last turn is the assistant's; cut the rest off"
        raise PosttrainError(row.where, message, hint)
    if not any(turn.role == "assistant" and turn.is_trained for turn in turns):
        message = f"no assistant turn of `{column}` is to be trained on"
        raise PosttrainError(row.where, message, "there is nothing to learn from it; drop the row")
    settings = settings_of(row)
    turns = with_system(row, drop_filled_nulls(turns, settings))
    return ChatRow(row.where, turns, settings=settings)
