"""Responses that are to be rewarded, as ids and as text, with what they answer.

Not a sampler: whoever sampled them fills this in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eval.sampler import response_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

Text = str | list[dict[str, Any]]  # running text, or messages with `role` and `content`

SOURCE = "source"
REFERENCE = "reference"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Logged:
    """What reward functions said beside their numbers, each name as `term/name`.

    metrics: every value of a metric. columns: one value a response, None where a term had none.
    """

    metrics: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    columns: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])


@dataclass(frozen=True)
class Responses:
    """Responses to be rewarded, and what they answer; every list has one entry a response.

    prompts, completions: texts, or messages where the prompt is a conversation (the completion is
        then one message of the assistant's); without control tokens.
    prompt_ids, completion_ids: as they were sampled, the stop token included.
    has_eos: whether the response ended itself; by which of the stop tokens is no matter.
    columns: the other columns of the prompts' rows, such as `reference` and `source`.
    """

    prompts: Sequence[Text]
    completions: Sequence[Text]
    prompt_ids: Sequence[list[int]]
    completion_ids: Sequence[list[int]]
    has_eos: Sequence[bool]
    columns: Mapping[str, Sequence[Any]]
    logged: Logged = field(default_factory=Logged)

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def decoded(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Text],
        *,
        prompt_ids: Sequence[list[int]],
        completion_ids: Sequence[list[int]],
        has_eos: Sequence[bool],
        columns: Mapping[str, Sequence[Any]],
    ) -> Responses:
        """Return them with completions as evaluation reads them, without the stop token."""
        completions: list[Text] = []
        for prompt, asked, written, ended in zip(
            prompts, prompt_ids, completion_ids, has_eos, strict=True
        ):
            text = response_text(tokenizer, asked, written[:-1] if ended else written)
            is_chat = not isinstance(prompt, str)
            completions.append([{"role": "assistant", "content": text}] if is_chat else text)
        return cls(prompts, completions, prompt_ids, completion_ids, has_eos, columns)

    def text(self, row: int) -> str:
        """Return a completion as running text."""
        completion = self.completions[row]
        if isinstance(completion, str):
            return completion
        return "".join(message["content"] for message in completion)

    def shown(self, row: int) -> str:
        """Return how an error names a response: by its number and by what it begins with."""
        text = self.text(row)
        cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
        return f"response {row} (`{cut}`)"

    def part(self, rows: Sequence[int]) -> Responses:
        """Return some of the responses; what is logged of them is kept apart."""
        return Responses(
            [self.prompts[row] for row in rows],
            [self.completions[row] for row in rows],
            [self.prompt_ids[row] for row in rows],
            [self.completion_ids[row] for row in rows],
            [self.has_eos[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in self.columns.items()},
        )
