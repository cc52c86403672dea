"""Completions that are conversations: a sampler's rows call tools and go on.

A sampler like the one it wraps. What is drawn for a row still depends on (seed, key) and the place
within its completion alone; the tokens that tools answered take places, too, but draw nothing. The
loop from turn to turn is eval/tools/turns.py's, what happens to the tokens is experience.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.tools.turns import Conversation, ToolUse, Turn, converse
from pipeline.rl.sampler import Completion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from pipeline.rl.sampler import Sampler


@dataclass(frozen=True)
class ConversationSampler:
    """Samples from a policy that may call tools. max_new_tokens: those of the tools included."""

    sampler: Sampler
    tools: ToolUse
    max_new_tokens: int

    def __call__(
        self,
        module: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        keys: Sequence[int],
        seed: int,
        written: Sequence[int] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Sample from the module, as Sampler says; `written` is for a wrapped sampler alone."""
        if written is not None:
            raise ValueError("a conversation begins behind its prompt")
        conversations = [Conversation(list(prompt)) for prompt in prompts]

        def write(places: Sequence[int]) -> list[Turn]:
            going_on = [conversations[place] for place in places]
            num_over = len(conversations) - len(places)
            is_first = all(not conversation.turns for conversation in going_on)

            def report(done: int) -> None:
                if on_progress is not None:
                    on_progress(num_over + done)

            completions = self.sampler(
                module,
                [conversation.prompt + conversation.token_ids for conversation in going_on],
                keys=[keys[place] for place in places],
                seed=seed,
                written=None if is_first else [len(one.token_ids) for one in going_on],
                on_progress=report,
            )
            return [Turn(one.token_ids, one.has_eos, one.logprobs) for one in completions]

        converse(conversations, self.tools, max_new_tokens=self.max_new_tokens, write=write)
        return [
            Completion(one.token_ids, one.has_ended, one.logprobs, one.own, one)
            for one in conversations
        ]
