"""Continuations of one context, which is read once, are as probable as each read by itself."""

import math

import pytest
import torch

from eval.asking.loglik import continuation_logprobs
from eval.model import LanguageModel
from tests.small_architectures import small

CONTEXTS = ([5, 6, 7, 8, 9], [10, 11], [12])
OPTIONS = ([20], [21, 22, 23], [24, 25], [26, 27, 28, 29, 30])
PAIRS = [(context, option) for option in OPTIONS for context in CONTEXTS]
SHARING = ["llama", "qwen3", "gpt2", "gpt_neox", "bloom", "opt", "phi", "falcon"]
ALONE = ["mamba", "mamba2", "gemma2", "mistral", "lfm2", "qwen3_next"]  # states or windows


def model_of(module, reads: list[int]) -> LanguageModel:
    """A model that notes how many tokens each pass reads."""
    module.register_forward_pre_hook(
        lambda _, __, inputs: reads.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    none = frozenset[int]()
    return LanguageModel("m", module, None, "document", lambda _: [], None, none)  # pyright: ignore


def alone(module, context: list[int], continuation: list[int]) -> float:
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([context + continuation])).logits[0].double()
    logprobs = torch.log_softmax(logits[len(context) - 1 : -1], -1)
    return float(logprobs.gather(-1, torch.tensor(continuation).unsqueeze(-1)).sum())


@pytest.mark.parametrize("batch_size", [5, 64])
@pytest.mark.parametrize("architecture", SHARING + ALONE)
def test_options_are_as_probable_as_each_by_itself(architecture: str, batch_size: int) -> None:
    module = small(architecture)
    expected = [alone(module, *pair) for pair in PAIRS]
    found = continuation_logprobs(model_of(module, []), PAIRS, batch_size=batch_size)
    assert all(math.isclose(*both, abs_tol=1e-3) for both in zip(found, expected, strict=True))


def test_a_context_is_read_once_for_all_its_options() -> None:
    reads: list[int] = []
    continuation_logprobs(model_of(small("llama"), reads), PAIRS, batch_size=64)
    longest = max(map(len, OPTIONS)) - 1
    assert reads == [len(CONTEXTS) * max(map(len, CONTEXTS)), len(PAIRS) * longest]


def test_a_model_that_cannot_read_on_is_asked_once_only() -> None:
    reads: list[int] = []
    continuation_logprobs(model_of(small("mamba"), reads), PAIRS * 3, batch_size=12)
    assert len(reads) == 1 + 3


def test_options_of_one_token_take_one_pass() -> None:
    reads: list[int] = []
    pairs = [(context, [token]) for context in CONTEXTS for token in (20, 21, 22)]
    continuation_logprobs(model_of(small("llama"), reads), pairs, batch_size=64)
    assert len(reads) == 1
