"""A model as evaluation asks it: its tokenizer, the form of a question, what ends a response."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transformers import AutoConfig

from eval.model import MAX_WINDOW, Form, LanguageModel, positions_of
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.models.forms import form_of_model
from pipeline.models.load import base_of, load_policy, load_tokenizer, on_device
from pipeline.models.save import TRAINED_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.field_types import Precision
    from pipeline.config.stage import StageInput


def language_model(
    source: StageInput,
    *,
    form: Form | None,
    precision: Precision,
    prepare: Callable[[PreTrainedTokenizerBase], object] | None = None,
) -> LanguageModel:
    """Load a model for evaluation.

    form: how it is asked; without it, as the stage that made it says, else by whether its tokenizer
    has a chat template. prepare: puts another template on the tokenizer.
    """
    tokenizer = load_tokenizer(source)
    if prepare is not None:
        prepare(tokenizer)
    module = on_device(load_policy(source, precision=precision))
    form = form or form_of_model(tokenizer, source.properties)
    model = wrap(module, tokenizer, name=source.name, form=form)
    return replace(model, trained_length=source.properties.get(TRAINED_LENGTH))


def reading_window(source: StageInput) -> int:
    """Return the context that a model's documents are read with, without loading the model."""
    whole = base_of(source) or source
    config = AutoConfig.from_pretrained(
        whole.path, revision=whole.revision, trust_remote_code=False
    )
    known = (positions_of(config), source.properties.get(TRAINED_LENGTH), MAX_WINDOW)
    return min(number for number in known if number is not None)


def wrap(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, form: Form
) -> LanguageModel:
    """Hand a loaded model to evaluation; it is put into evaluation mode."""
    encoder = ChatEncoder(tokenizer) if form == "chat" else None
    return LanguageModel(
        name=name,
        module=module.eval(),
        tokenizer=tokenizer,
        form=form,
        encode_document=TextEncoder(tokenizer).document,
        encode_chat=encoder.prompt_ids if encoder else None,
        eos_token_ids=eos_token_ids(module, tokenizer, encoder),
    )


def eos_token_ids(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, encoder: ChatEncoder | None
) -> frozenset[int]:
    """Return every id that ends a response: of text, of generation, of a turn."""
    ids = set[int]()
    for eos in (tokenizer.eos_token_id, getattr(module.generation_config, "eos_token_id", None)):
        if isinstance(eos, int):
            ids.add(eos)
        elif isinstance(eos, list):
            ids.update(number for number in eos if isinstance(number, int))
    if encoder is not None:
        ids.update(encoder.end_ids())
    return frozenset(ids)
