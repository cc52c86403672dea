"""Log-likelihoods against one plain forward pass per pair, and the windows of long texts."""

import math

import pytest
import torch

import eval.asking.loglik as loglik
from eval.asking.loglik import (
    continuation_logprobs,
    split_continuation,
)
from eval.model import LanguageModel, StopRequested
from tests.unit.eval.asking.text_bits import text_bits, text_pairs

TEXT = "Once upon a time there was a very small model that could not write. " * 5


def plain_logprob(model, context, continuation):
    ids = [*context, *continuation]
    with torch.no_grad():
        logprobs = torch.log_softmax(model.module(torch.tensor([ids])).logits[0].double(), -1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(len(context), len(ids)))


@pytest.fixture
def pairs(tiny):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 90, (1000,), generator=generator).tolist()
    lengths = [(1, 1), (1, 40), (40, 1), (7, 3), (3, 7), (60, 36), (20, 20), (2, 2), (5, 1)]
    return [(ids[i : i + a], ids[i + a : i + a + b]) for i, (a, b) in enumerate(lengths)]


def test_continuations_get_the_probability_of_a_plain_forward_pass(tiny, pairs):
    expected = [plain_logprob(tiny, *pair) for pair in pairs]
    assert continuation_logprobs(tiny, pairs, batch_size=4) == pytest.approx(expected, abs=1e-3)


def test_neither_batch_size_nor_memory_limits_change_a_log_probability(tiny, pairs, monkeypatch):
    alone = continuation_logprobs(tiny, pairs, batch_size=1)
    for batch_size in (2, 5, 100):
        together = continuation_logprobs(tiny, pairs, batch_size=batch_size)
        assert together == pytest.approx(alone, rel=1e-6, abs=1e-5)
    monkeypatch.setattr(loglik, "_MAX_LOGITS", 4000)
    monkeypatch.setattr(loglik, "_LOGITS_AT_ONCE", 300)
    assert continuation_logprobs(tiny, pairs, batch_size=100) == pytest.approx(
        alone, rel=1e-6, abs=1e-5
    )


def test_the_probabilities_of_all_next_tokens_add_up_to_one(tiny):
    context = tiny.encode_document("2+2=")
    every = [(context, [token]) for token in range(tiny.module.config.vocab_size)]
    logprobs = continuation_logprobs(tiny, every, batch_size=32)
    assert math.fsum(map(math.exp, logprobs)) == pytest.approx(1, abs=1e-6)


def test_what_cannot_be_scored_is_refused_by_its_place(tiny):
    good = ([0, 5], [6])
    with pytest.raises(ValueError, match="pair 1 needs at least one token"):
        continuation_logprobs(tiny, [good, ([], [6])], batch_size=2)
    with pytest.raises(ValueError, match="pair 1 needs at least one token"):
        continuation_logprobs(tiny, [good, ([5], [])], batch_size=2)
    with pytest.raises(ValueError, match="pair 1 has 97 tokens"):
        continuation_logprobs(tiny, [good, ([5] * 90, [6] * 7)], batch_size=2)


def test_progress_counts_pairs_and_a_stop_request_ends_the_work(tiny, pairs):
    seen = []
    continuation_logprobs(tiny, pairs, batch_size=4, on_progress=seen.append)
    assert seen == [4, 8, 9]
    with pytest.raises(StopRequested):
        continuation_logprobs(tiny, pairs, batch_size=4, should_stop=lambda: True)


@pytest.mark.parametrize("max_window", [2, 7, 8, 50, 4000])
@pytest.mark.parametrize("num_characters", [0, 1, 2, 7, 8, 9, 95, 96, 300])
def test_windows_score_every_token_once_with_half_a_window_before_it(
    tiny, max_window, num_characters
):
    text = TEXT[:num_characters]
    window = min(max_window, 96)
    pairs = text_pairs(tiny, text, window=max_window)
    scored = [token for _, continuation in pairs for token in continuation]
    assert scored == tiny.encode_document(text)[1:]
    for number, (context, continuation) in enumerate(pairs):
        assert len(context) + len(continuation) <= window
        assert len(context) >= (window // 2 if number else 1)


def test_the_bits_of_a_text_are_those_of_one_forward_pass_where_it_fits(tiny):
    text = TEXT[:60]
    ids = tiny.encode_document(text)
    expected = -plain_logprob(tiny, ids[:1], ids[1:]) / math.log(2)
    bits, size_bytes = text_bits(tiny, text, batch_size=4)
    assert bits == pytest.approx(expected, rel=1e-5)
    assert size_bytes == 60
    assert text_bits(tiny, "", batch_size=4) == (0, 0)


def test_the_bits_of_a_long_text_do_not_depend_on_batch_size(tiny):
    assert text_bits(tiny, TEXT, batch_size=1)[0] == pytest.approx(
        text_bits(tiny, TEXT, batch_size=16)[0], rel=1e-6
    )


def test_without_bos_the_first_token_costs_as_much_as_naming_any_token(tiny, tiny_without_bos):
    text = TEXT[:60]
    ids = tiny_without_bos.encode_document(text)
    rest = -plain_logprob(tiny_without_bos, ids[:1], ids[1:]) / math.log(2)
    num_tokens = tiny_without_bos.module.config.vocab_size
    assert text_bits(tiny_without_bos, text, batch_size=1)[0] == pytest.approx(
        rest + math.log2(num_tokens), rel=1e-5
    )


def greedy_words(text):
    """A tokenizer for two words and what joins them: `ab` is one token where it can be."""
    ids = [0]
    while text:
        symbol = "ab" if text.startswith("ab") else text[0]
        ids.append({"a": 1, "b": 2, "ab": 3, " ": 4}[symbol])
        text = text[len(symbol) :]
    return ids


def test_a_continuation_has_its_ids_of_the_joint_text_unless_the_tokenizer_joins_the_two(tiny):
    model = LanguageModel(
        "joining", tiny.module, tiny.tokenizer, "document", greedy_words, None, frozenset()
    )
    assert split_continuation(model, "b a", " ab") == ([0, 2, 4, 1], [4, 3])
    assert split_continuation(model, "b a", "b a") == ([0, 2, 4, 1], [2, 4, 1])
