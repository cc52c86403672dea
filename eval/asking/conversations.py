"""Responses of a model that may call tools: a turn, the tools' answers, the next turn.

For a model without tools these are the responses of eval/asking/sampler.py as they are. What was
drawn depends on the seed, the prompt's number and the place in the response alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eval.asking.sampler import Generation, generate
from eval.results import CALLED, CALLED_NEEDED, CALLS_RIGHT, NOT_CALLED, ItemResult, beside
from eval.tools.turns import Conversation, Turn, converse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eval.model import LanguageModel
    from eval.tools.turns import ToolUse


def generate_with_tools(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    on_progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> list[Generation]:
    """Return one response to each prompt, as `generate` does; settings: its other ones.

    max_new_tokens: of a response, what tools answer included.
    """
    tools = model.tools
    if tools is None:
        return generate(
            model, prompts, max_new_tokens=max_new_tokens, on_progress=on_progress, **settings
        )
    conversations = [Conversation(list(prompt)) for prompt in prompts]
    last: dict[int, Generation] = {}

    def write(places: Sequence[int]) -> list[Turn]:
        going_on = [conversations[place] for place in places]
        num_over = len(conversations) - len(places)

        def report(done: int) -> None:
            if on_progress is not None:
                on_progress(num_over + done)

        is_first = not any(one.turns for one in going_on)
        generations = generate(
            model,
            [one.prompt + one.token_ids for one in going_on],
            max_new_tokens=max_new_tokens,
            keys=places,
            written=None if is_first else [len(one.token_ids) for one in going_on],
            on_progress=report,
            **settings,
        )
        last.update(zip(places, generations, strict=True))
        return [Turn(list(one.token_ids), one.ended != "length") for one in generations]

    converse(conversations, tools, max_new_tokens=max_new_tokens, write=write)
    return [
        replace(
            last[place],
            token_ids=tuple(one.token_ids),
            text=_said(last[place], one, tools),
            ended=last[place].ended if one.has_ended else "length",
            conversation=one,
        )
        for place, one in enumerate(conversations)
    ]


def _said(last: Generation, conversation: Conversation, tools: ToolUse) -> str:
    """Return what the last turn says; a call that nobody answered says nothing."""
    if not conversation.has_open_calls:
        return last.text
    return tools.format.spoken(conversation.token_ids[conversation.turns[-1].begin :])


def own_parts(prompt: Sequence[int], generation: Generation) -> list[tuple[list[int], list[int]]]:
    """Return (what stands before, what the model wrote) for each turn of a response."""
    conversation = generation.conversation
    if conversation is None:
        return [(list(prompt), list(generation.token_ids))]
    ids = conversation.token_ids
    return [
        ([*prompt, *ids[: turn.begin]], ids[turn.begin : turn.end]) for turn in conversation.turns
    ]


def num_written(generation: Generation) -> int:
    """Return how many tokens of a response the model wrote."""
    conversation = generation.conversation
    return len(generation.token_ids) if conversation is None else conversation.num_own


def calls_as_json(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the calls of a response as items.jsonl has them."""
    return [
        {
            "name": call.name,
            "arguments": call.arguments,
            "answer": call.answer,
            "error": call.error,
        }
        for call in conversation.calls
    ]


def tool_results(result: ItemResult, needs_tool: bool | None) -> Iterator[ItemResult]:
    """Yield how a response used tools, each as a result of its own beside the response's.

    needs_tool: whether the item takes one to be right, where its task knows. Nothing is known of an
    item that was not asked, or of a model that had no tools.
    """
    calls = result.calls
    reason = result.reason if calls is None else ""
    has_called = None if calls is None else float(bool(calls))
    yield beside(result, CALLED, has_called, reason)
    right = None
    if calls:
        right = sum(call["error"] is None for call in calls) / len(calls)
    yield beside(result, CALLS_RIGHT, right, reason)
    if needs_tool is True:
        yield beside(result, CALLED_NEEDED, has_called, reason)
    if needs_tool is False:
        alone = None if has_called is None else 1.0 - has_called
        yield beside(result, NOT_CALLED, alone, reason)
