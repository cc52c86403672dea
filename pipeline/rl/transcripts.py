"""Completions with calls of tools as messages: what reward functions, samples and people read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.rewards.responses import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.tools.toolbox import CallRecord
    from eval.tools.turns import Conversation, ToolFormat


def messages_of(
    conversation: Conversation,
    format_: ToolFormat,
    tokenizer: PreTrainedTokenizerBase,
    *,
    stop: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return a conversation's turns in the form of TRL's completions.

    A turn whose calls were asked is a message with `tool_calls`, and one by `tool` for each answer;
    the last turn is the text that is verified. Where its calls were never answered, it is what it
    says beside them.
    """
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(conversation.turns):
        ids = conversation.token_ids[turn.begin : turn.end]
        is_last = number == len(conversation.turns) - 1
        if turn.calls or (is_last and conversation.has_open_calls):
            content = format_.spoken(ids)
        else:
            before = conversation.prompt + conversation.token_ids[: turn.begin]
            has_ended = conversation.has_ended or not is_last
            content = text_of(tokenizer, before, ids, has_ended=has_ended, stop=stop)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if turn.calls:
            message["tool_calls"] = [_call(call) for call in turn.calls]
        messages.append(message)
        # Of a turn that was the last, nothing was put in: there was no room.
        if not is_last:
            messages += [
                {"role": "tool", "name": call.name, "content": call.answer} for call in turn.calls
            ]
    return messages


def _call(call: CallRecord) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:  # cut, since it is long
        arguments = {"...": call.arguments}
    return {"type": "function", "function": {"name": call.name, "arguments": arguments}}
