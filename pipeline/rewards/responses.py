"""Responses that are to be rewarded, as ids and as text, with what they answer.

Not a sampler: whoever sampled them fills this in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eval.asking.sampler import response_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

Text = str | list[dict[str, Any]]  # running text, or messages with `role` and `content`

SOURCE = "source"
REFERENCE = "reference"
# Where a recipe's prompts keep which block they are from; no data can have a column of this name
# that a function could be handed.
ORIGIN = ".source"
_SHOWN_CHARACTERS = 60


def source_in(columns: Mapping[str, Any]) -> Any:
    """Return which source a prompt is from, or those of several: what a recipe says, else its data.

    None where neither does.
    """
    return columns.get(ORIGIN, columns.get(SOURCE))


def text_of(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    completion: list[int],
    *,
    has_ended: bool,
    stop: Sequence[str] = (),
) -> str:
    """Return a completion's text, without the stop token or what follows from a stop string on."""
    if stop and has_ended:
        text = response_text(tokenizer, prompt, completion)
        cuts = [place for place in map(text.find, stop) if place >= 0]
        if cuts:
            return text[: min(cuts)]
    return response_text(tokenizer, prompt, completion[:-1] if has_ended else completion)


@dataclass(frozen=True)
class Logged:
    """What reward functions said beside their numbers, each name as `term/name`.

    metrics: every value of a metric. columns: one value per response, None where a term had none.
    """

    metrics: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    columns: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])


@dataclass(frozen=True)
class Responses:
    """Responses to be rewarded, and what they answer; every list has one entry per response.

    prompts, completions: texts, or messages where the prompt is a conversation (the completion is
        then one message of the assistant's, or with tools one for each turn, as in TRL: the
        assistant's calls in `tool_calls`, what was answered by `tool`); without control tokens.
    prompt_ids, completion_ids: as they were sampled, the stop token included.
    has_eos: whether the response ended itself; by which of the stop tokens does not matter.
    columns: the other columns of the prompts' rows, such as `reference`.
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
    def decode(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Text],
        *,
        prompt_ids: Sequence[list[int]],
        completion_ids: Sequence[list[int]],
        has_eos: Sequence[bool],
        columns: Mapping[str, Sequence[Any]],
        stop: Sequence[str] = (),
        turns: Sequence[list[dict[str, Any]]] | None = None,
    ) -> Responses:
        """Return them with completions as evaluation reads them, without what ended them.

        stop: strings that end a response. turns: of completions that are conversations.
        """
        if turns is not None:
            talks: list[Text] = [
                str(talk[-1]["content"]) if isinstance(prompt, str) else talk
                for prompt, talk in zip(prompts, turns, strict=True)
            ]
            return cls(prompts, talks, prompt_ids, completion_ids, has_eos, columns)
        completions: list[Text] = []
        for prompt, ids, written, ended in zip(
            prompts, prompt_ids, completion_ids, has_eos, strict=True
        ):
            text = text_of(tokenizer, ids, written, has_ended=ended, stop=stop)
            is_chat = not isinstance(prompt, str)
            completions.append([{"role": "assistant", "content": text}] if is_chat else text)
        return cls(prompts, completions, prompt_ids, completion_ids, has_eos, columns)

    @property
    def handed(self) -> dict[str, Sequence[Any]]:
        """The columns as functions are handed them: `source` is the data's own where it has one."""
        columns = {name: values for name, values in self.columns.items() if name != ORIGIN}
        if ORIGIN in self.columns:
            own = columns.get(SOURCE, [None] * len(self))
            pairs = zip(own, self.columns[ORIGIN], strict=True)
            columns[SOURCE] = [origin if value is None else value for value, origin in pairs]
        return columns

    def text(self, row: int) -> str:
        """Return a completion as running text; of a conversation with tools, its last turn."""
        completion = self.completions[row]
        if isinstance(completion, str):
            return completion
        if any(message["role"] == "tool" for message in completion):
            return completion[-1]["content"] if completion[-1]["role"] == "assistant" else ""
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
