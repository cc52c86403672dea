"""Which vocabularies of policy and reward model go together, and which are refused."""

import logging
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from pipeline.errors import PosttrainError
from pipeline.rewards.terms import model_term
from tests.unit.rewards.responses import given_by, responses

SHAPE = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
SHAPE |= {"num_hidden_layers": 1, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}


def of(words: dict[str, int], pad: str = "t0") -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(words, unk_token="t2"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, eos_token="t1")


def numbered(count: int) -> dict[str, int]:
    return {f"t{number}": number for number in range(count)}


def reward_model(vocab_size: int = 32) -> Any:
    return LlamaForSequenceClassification(LlamaConfig(**SHAPE, vocab_size=vocab_size, num_labels=1))


def term(own: PreTrainedTokenizerFast, policy: PreTrainedTokenizerFast, rows: int = 32) -> Any:
    own.name_or_path, policy.name_or_path = "their/reward-model", "my/policy"
    return model_term(reward_model(rows), own, "rm", policy_tokenizer=policy)


def test_an_id_that_is_another_token_to_the_reward_model_is_refused() -> None:
    """B40."""
    swapped = {**numbered(32), "t30": 31, "t31": 30}
    said = r"^reward `rm`: .*`their/reward-model`.*`my/policy`.*`t30` is 31 to .* and 30 to"
    with pytest.raises(ValueError, match=said):
        term(of(swapped), of(numbered(32)))
    renamed = {word if number != 9 else "x": number for word, number in numbered(32).items()}
    with pytest.raises(ValueError, match="id 9 is `x` to the reward model and `t9` to the policy"):
        term(of(renamed), of(numbered(32)))


def test_padding_that_the_policy_alone_has_is_never_scored() -> None:
    own, policy = of(numbered(32)), of({**numbered(32), "[PAD]": 32}, pad="[PAD]")
    scored = given_by(term(own, policy), responses("a" * 5, "b" * 31))
    assert all(isinstance(each, float) for each in scored)
    with pytest.raises(PosttrainError, match=r"token id 32 was sampled, .* embeddings of 32"):
        given_by(term(own, policy), responses("c" * 32))


def test_tokens_that_the_reward_model_alone_has_do_no_harm() -> None:
    assert given_by(term(of(numbered(32)), of(numbered(30))), responses("a" * 5))[0] is not None


def test_a_token_that_the_policy_alone_has_needs_an_embedding(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = of({**numbered(32), "<think>": 32})
    with pytest.raises(ValueError, match="can write `<think>`, id 32, beyond the 32 tokens"):
        term(of(numbered(32)), policy)
    assert not caplog.records
    scored = given_by(term(of(numbered(32)), policy, rows=40), responses("a" * 32))
    assert scored[0] is not None
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["1 tokens of the policy's (`<think>`)" in each.getMessage() for each in warned] == [
        True
    ]
