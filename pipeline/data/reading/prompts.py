"""Rows of the form prompt: what responses are sampled for in reinforcement learning.

    prompt                    a text, which the response continues (TRL's standard form, no
                              template), or a list of messages that ends with a user's turn
    messages, conversations   a chat; an assistant's answer at its end is dropped
    instruction               Alpaca's, `input` (if any) after a blank line: a user's turn, with
                              `history` before it
    input_ids                 token ids, taken as they are
    chosen, rejected          a preference set in any of its forms (preferences.py): its prompts

Beside a chat, `system`, `tools` and `chat_template_kwargs` are used. Reward functions get all
columns as they are, including these, except those whose names have a meaning in TRL's calling
convention (such as `completions`). data/encoding/prompts.py makes the token ids. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.config.reward_signature import HANDED_TO_REWARDS
from pipeline.data.reading.alpaca import HISTORY, instruction_turns
from pipeline.data.reading.columns import drop_filled_nulls, settings_of, with_system
from pipeline.data.reading.fields import text_of
from pipeline.data.reading.files import kind_of
from pipeline.data.reading.messages import FROM_VALUE, ROLE_CONTENT, MessageStyle, turns_of
from pipeline.data.reading.records import DroppedRow, Message, PromptRow
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.data.reading.files import Row
    from pipeline.data.reading.preferences import Pair

# Under these names a reward function gets something else than a column, or the prompt itself.
_RESERVED = frozenset({*HANDED_TO_REWARDS, "prompt", "completion", "input_ids"})


def prompt_row(row: Row) -> PromptRow:
    """Read `prompt`: a text, or a conversation."""
    value = row.fields["prompt"]
    if isinstance(value, list):
        messages = turns_of(value, "prompt", row.where, ROLE_CONTENT)
        return _as_prompt(row, _asking(messages, "prompt", row.where))
    text = text_of(value, "prompt", row.where)
    return PromptRow(row.where, (), text, _others(row))


def messages_row(row: Row) -> PromptRow:
    """Read `messages`."""
    return _chat_row(row, "messages", ROLE_CONTENT)


def conversations_row(row: Row) -> PromptRow:
    """Read ShareGPT's `conversations`."""
    return _chat_row(row, "conversations", FROM_VALUE)


def instruction_row(row: Row) -> PromptRow:
    """Read Alpaca's `instruction` and `input`."""
    return _as_prompt(row, instruction_turns(row), "instruction", "input", HISTORY)


def ids_row(row: Row) -> PromptRow:
    """Read `input_ids`."""
    value = row.fields["input_ids"]
    if not isinstance(value, list) or not value:
        stated = "an empty list" if value == [] else f"{kind_of(value)}, not a list"
        raise PosttrainError(row.where, f"`input_ids` is {stated}", "it is a list of token ids")
    for number, token_id in enumerate(cast("list[Any]", value)):
        if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
            message = f"`input_ids[{number}]` is {token_id!r:.40}, not a token id"
            raise PosttrainError(row.where, message, "a token id is a whole number from 0")
    ids = tuple(cast("list[int]", value))
    return PromptRow(row.where, (), None, _others(row), ids)


def of_pairs(read: Callable[[Row], Pair]) -> Callable[[Row], PromptRow | DroppedRow]:
    """Return a reader of the prompts in pairs; read: the reader of pairs, whose drops it shares."""

    def prompt_of_pair(row: Row) -> PromptRow | DroppedRow:
        pair = read(row)
        if isinstance(pair, DroppedRow):
            return pair
        text = None if pair.text is None else pair.text[0]
        others = _others(row, "conversations", "instruction", "input", HISTORY)
        return PromptRow(row.where, pair.prompt, text, others, settings=pair.settings)

    return prompt_of_pair


def task_row(row: Row) -> PromptRow:
    """Read a task's prompt, with the reference that its verifier compares responses with."""
    prompt = text_of(row.fields["prompt"], "prompt", row.where)
    text = text_of(row.fields.get("document", prompt), "document", row.where)
    return PromptRow(row.where, (Message("user", prompt),), text, _others(row, "document"))


def _chat_row(row: Row, column: str, style: MessageStyle) -> PromptRow:
    messages = turns_of(row.fields[column], column, row.where, style)
    if messages[-1].role == "assistant":
        messages = messages[:-1]
    return _as_prompt(row, _asking(messages, column, row.where), column)


def _as_prompt(row: Row, turns: tuple[Message, ...], *used: str) -> PromptRow:
    """Return a conversation as a prompt, with the system turn from its column if it has one."""
    settings = settings_of(row)
    messages = with_system(row, drop_filled_nulls(turns, settings))
    return PromptRow(row.where, messages, None, _others(row, *used), settings=settings)


def _asking(messages: tuple[Message, ...], column: str, where: str) -> tuple[Message, ...]:
    if not messages:
        raise PosttrainError(where, f"`{column}` has no user turn", "drop the row")
    if messages[-1].role not in ("user", "tool"):
        message = f"the prompt in `{column}` ends with a turn of the {messages[-1].role}"
        raise PosttrainError(where, message, "a response answers a user's turn, or a tool's")
    return messages


def _others(row: Row, *used: str) -> dict[str, Any]:
    """Return the columns that reward functions get."""
    return {
        name: value
        for name, value in row.fields.items()
        if name not in _RESERVED and name not in used
    }
