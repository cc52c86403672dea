"""Tiny random models over single ASCII characters, as LanguageModels."""

import string

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from eval.model import LanguageModel, Turn

BOS, EOS = "<s>", "</s>"
POSITIONS = 96
NUM_TOKENS = 98


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each printable ASCII character, byte-level style, and two control tokens."""
    printable = string.digits + string.ascii_letters + string.punctuation + " \n"
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    symbols = [byte_level.pre_tokenize_str(character)[0][0] for character in printable]
    vocab = {symbol: index for index, symbol in enumerate([BOS, EOS, *symbols])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def llama() -> LlamaForCausalLM:
    """Weights so wide that no two logits are nearly equal."""
    config = LlamaConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    """Absolute positions, unlike a Llama, which sees only distances."""
    config = GPT2Config(
        vocab_size=NUM_TOKENS,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=POSITIONS,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel(config).eval()


def language_model(module, *, form="document", bos=True, num_eos=1) -> LanguageModel:
    tokenizer = character_tokenizer()

    def encode(text: str) -> list[int]:
        return [tokenizer.bos_token_id] * bos + tokenizer(text)["input_ids"]

    def encode_chat(turns: list[Turn]) -> list[int]:
        return encode("".join(f"{role[0]}:{text}\n" for role, text in turns) + "a:")

    eos = frozenset(range(1, 1 + num_eos))
    return LanguageModel(
        "tiny", module, tokenizer, form, encode, encode_chat if form == "chat" else None, eos
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads that spin for two busy cores made these tests 20 times slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> LanguageModel:
    return language_model(llama())


@pytest.fixture(scope="session")
def tiny_with_many_endings() -> LanguageModel:
    """Twelve tokens end a response, so that rows of a batch end at different steps."""
    return language_model(llama(), num_eos=12)


@pytest.fixture(scope="session")
def tiny_gpt2_with_many_endings() -> LanguageModel:
    return language_model(gpt2(), num_eos=12)


@pytest.fixture(scope="session")
def tiny_chat() -> LanguageModel:
    return language_model(llama(), form="chat")


@pytest.fixture(scope="session")
def tiny_without_bos() -> LanguageModel:
    return language_model(llama(), bos=False)
