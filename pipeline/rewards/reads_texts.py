"""A reward model that reads texts: prompts and responses in its own template and tokens.

For judging what nobody learns from, whatever the policy's vocabulary is. (In training it reads the
sampled tokens: terms.py.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.passages import write_transcript
from pipeline.data.encoding.tokens import TextEncoder, Tokens
from pipeline.data.reading.records import NO_SETTINGS, ChatRow, ChatSettings, Message
from pipeline.files.names import ARTIFACT, EXPORTED
from pipeline.models.load import load_tokenizer, on_device
from pipeline.models.reward import load_reward_model
from pipeline.rewards.terms import model_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.config.field_types import Precision
    from pipeline.config.stage import StageInput
    from pipeline.data.reading.records import PreferenceRow


@dataclass(frozen=True)
class Answered:
    """A prompt and a response to it.

    messages: the prompt as a conversation, or (). text: the same, and the response behind it, as
    running text; without it, and where the model has no template, messages become a transcript.
    """

    where: str
    messages: tuple[Message, ...]
    response: Message
    text: tuple[str, str] | None = None
    settings: ChatSettings = NO_SETTINGS


def both_answers(pair: PreferenceRow) -> tuple[Answered, Answered]:
    """Return the chosen and the rejected response of a pair behind its prompt."""
    chosen, rejected = (
        Answered(
            pair.where,
            pair.prompt,
            turn,
            None if pair.text is None else (pair.text[0], pair.text[place]),
            pair.settings,
        )
        for place, turn in enumerate(pair.turns, start=1)
    )
    return chosen, rejected


class TextScorer:
    """A reward model with its tokenizer, ready to score texts.

    prepare: puts another template on the tokenizer. batch_size: memory and speed only.
    """

    def __init__(
        self,
        source: StageInput,
        *,
        precision: Precision = "fp32",
        batch_size: int = 32,
        prepare: Callable[[PreTrainedTokenizerBase], object] | None = None,
    ) -> None:
        tokenizer = load_tokenizer(source)
        if prepare is not None:
            prepare(tokenizer)
        self._module = on_device(load_reward_model(source, precision=precision)).eval()
        self._text = TextEncoder(tokenizer)
        self._chat = ChatEncoder(tokenizer) if tokenizer.chat_template else None
        self._batch_size = batch_size
        # A stage trains on what ends with the turn. Elsewhere they read all that a template writes,
        # such as ChatML's line break behind it.
        self._ends_with_turn = _is_of_ours(source)

    @property
    def has_template(self) -> bool:
        """Whether conversations are read through a chat template."""
        return self._chat is not None

    @property
    def limit(self) -> int | None:
        """How many tokens it has positions for; None where there is no end."""
        limit = self._module.config.get_text_config().max_position_embeddings
        return limit if isinstance(limit, int) else None

    def is_too_long(self, ids: Sequence[int]) -> bool:
        """Whether a sequence is longer than the model has positions for."""
        return self.limit is not None and len(ids) > self.limit

    def encode(self, answers: Sequence[Answered]) -> list[Tokens]:
        """Return the ids of each; PosttrainError, with its row, for one that cannot be written.

        `trained` says which are the response's.
        Much faster for many at once.
        """
        chats = [one for one in answers if self._chat is not None and one.messages]
        encoded = iter(self._chats(chats))
        return [
            self._trim(next(encoded)) if self._chat and one.messages else self._running_text(one)
            for one in answers
        ]

    def scores(self, sequences: Sequence[list[int]]) -> list[float]:
        """Return one score a sequence, each of one token at least and not too long."""
        return model_scores(self._module, list(sequences), self._batch_size)

    def _chats(self, answers: Sequence[Answered]) -> list[Tokens]:
        if self._chat is None or not answers:
            return []
        return self._chat.answers(
            [
                ChatRow(one.where, (*one.messages, one.response), settings=one.settings)
                for one in answers
            ]
        )

    def _trim(self, tokens: Tokens) -> Tokens:
        end = len(tokens.ids)
        while self._ends_with_turn and end and not tokens.trained[end - 1]:
            end -= 1
        return Tokens(tokens.ids[:end], tokens.trained[:end])

    def _running_text(self, one: Answered) -> Tokens:
        prompt, response = one.text or (write_transcript(one.messages), f" {one.response.content}")
        return self._text.prompt_completion(prompt, response, one.where)


def _is_of_ours(source: StageInput) -> bool:
    """Whether a stage of ours trained it, or an export of one."""
    folder = Path(source.path)
    return any((folder / name).is_file() for name in (ARTIFACT, EXPORTED))
