"""LanguageModel: a loaded model as evaluation sees it.

Made by pipeline/models.py; this package loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from eval.tools.turns import ToolUse

Form = Literal["document", "chat"]

Turn = tuple[Literal["system", "user", "assistant"], str]


MAX_WINDOW = 2048  # tokens of context for documents, even where a model could take 131,072
_POSITIONS = ("max_position_embeddings", "max_seq_len")  # the second is mpt's


class StopRequested(Exception):
    """`should_stop` returned True; what was under way is thrown away."""


class Writer(Protocol):
    """Another engine that holds the same model, and writes responses in its place."""

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        keys: Sequence[int],
        seed: int,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        on_progress: Callable[[int], None],
    ) -> list[list[int]]:
        """Return the token ids after each prompt, the end token included where there is one.

        keys: numbers that rows are drawn by, with the seed. stop: texts after which it may end.
        """
        ...


@dataclass(frozen=True)
class LanguageModel:
    """A model in evaluation mode, its tokenizer and how text becomes token ids.

    form: how the model expects to be asked: by continuing a document, or through its chat template.
    encode_document: text -> ids, the model's BOS token first where it has one; control tokens in
        the text stay text.
    encode_chat: turns, the last one a user's -> ids up to where the assistant begins to write.
    eos_token_ids: any of these ends a response.
    trained_length: tokens of a row that it was pre-trained on, where that is known.
    tools: what it may call while it answers, if anything; `encode_chat` then tells it of them.
    writer: what writes its responses, where the module does not; likelihoods are the module's.
    """

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    form: Form
    encode_document: Callable[[str], list[int]]
    encode_chat: Callable[[Sequence[Turn]], list[int]] | None
    eos_token_ids: frozenset[int]
    trained_length: int | None = None
    tools: ToolUse | None = None
    writer: Writer | None = None

    @property
    def max_length(self) -> int | None:
        """Longest sequence, in tokens, that the positions cover; None if the model does not say."""
        return positions_of(self.module.config)

    @property
    def window(self) -> int:
        """Tokens of context that documents are read with unless another number is asked for.

        Never more than the model was trained on: beyond that some models say nonsense, others not,
        and a difference between two would be one of windows.
        """
        known = (self.max_length, self.trained_length, MAX_WINDOW)
        return min(number for number in known if number is not None)


def positions_of(config: Any) -> int | None:
    """Return how many positions a model's config has; None where there is no end, or none said."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in _POSITIONS)
    return next((number for number in found if isinstance(number, int) and number > 0), None)
