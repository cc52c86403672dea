"""LanguageModel: a loaded model as evaluation sees it.

Made by pipeline/models.py; this package loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Form = Literal["document", "chat"]

Turn = tuple[Literal["system", "user", "assistant"], str]


class StopRequested(Exception):
    """`should_stop` returned True; what was under way is thrown away."""


@dataclass(frozen=True)
class LanguageModel:
    """A model in evaluation mode, its tokenizer and how text becomes token ids.

    form: how the model expects to be asked: by continuing a document, or through its chat template.
    encode_document: text -> ids, the model's BOS token first where it has one; control tokens in
        the text stay text.
    encode_chat: turns, the last one a user's -> ids up to where the assistant begins to write.
    eos_token_ids: any of these ends a response.
    """

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    form: Form
    encode_document: Callable[[str], list[int]]
    encode_chat: Callable[[Sequence[Turn]], list[int]] | None
    eos_token_ids: frozenset[int]

    @property
    def max_length(self) -> int | None:
        """Longest sequence, in tokens, that the positions cover; None if the model does not say."""
        return getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
