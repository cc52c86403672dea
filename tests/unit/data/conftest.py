"""The tokenizer of most tests here."""

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.small_tokenizers import byte_level_tokenizer


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level_tokenizer()
