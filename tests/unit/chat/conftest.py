"""Tiny random models with a real tokenizer, as the chat is handed them."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eval.model import Form, LanguageModel
from pipeline.models.language import wrap
from tests.unit.data.small_tokenizers import TEMPLATES, byte_level_tokenizer

POSITIONS = 256

# One step of Python's that no alarm ends: a product of two numbers of ten million digits.
ENDLESS_FROM_THIRD_TURN = (
    "{% if messages | length > 2 %}{% set n = namespace(x=7) %}"
    "{% for _ in range(90) %}{% set n.x = n.x * n.x %}{% endfor %}{% endif %}"
) + TEMPLATES["own"]


def tiny_model(
    *, name: str = "./tiny", form: Form = "chat", template: str = TEMPLATES["own"], seed: int = 0
) -> LanguageModel:
    """A Llama with weights so wide that no two logits are nearly equal."""
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    return wrap(LlamaForCausalLM(config), tokenizer, name=name, form=form)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LanguageModel]:
    """Return a function that makes a tiny model."""
    torch.set_num_threads(1)
    return tiny_model


@pytest.fixture(scope="session")
def chat_model(make_model: Callable[..., LanguageModel]) -> LanguageModel:
    """A model that answers."""
    return make_model()


@pytest.fixture(scope="session")
def document_model(make_model: Callable[..., LanguageModel]) -> LanguageModel:
    """A model that continues text."""
    return make_model(name="./base", form="document")
