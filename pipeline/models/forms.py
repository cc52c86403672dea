"""The form of a question to a model: a conversation through its chat template, or a document.

One rule for a model that is there, one for what a stage teaches, for whoever asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.template import template_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form


def form_of_model(
    tokenizer: PreTrainedTokenizerBase, properties: Mapping[str, Any] | None = None
) -> Form:
    """Return the form that a model expects, guessed from its tokenizer where no stage says it.

    properties: what the stage that made the model said of it.
    """
    known: Form | None = (properties or {}).get("form")
    return known or ("chat" if tokenizer.chat_template else "document")


def form_of_rows(tokenizer: PreTrainedTokenizerBase, *, has_conversations: bool) -> Form:
    """Return the form that a model trained on rows expects: one conversation makes a chat."""
    if not tokenizer.chat_template:  # conversations are then trained on as running text
        return "document"
    return "chat" if has_conversations else "document"


def form_properties(tokenizer: PreTrainedTokenizerBase, form: Form) -> dict[str, Any]:
    """Return the form, and of a chat its template's hash, for the stages that follow."""
    is_chat = form == "chat"
    return {"form": form, "template_sha256": template_sha256(tokenizer) if is_chat else None}
