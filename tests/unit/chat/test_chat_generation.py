"""A reply token by token: the same as all at once, drawn as asked, no broken characters."""

import random
from dataclasses import replace

import pytest
import torch

from eval.asking.sampler import generate, response_text
from pipeline.chat.generation import TokenDecoder, pick
from pipeline.chat.session import begin_answer
from pipeline.chat.settings import Settings
from pipeline.errors import PosttrainError
from pipeline.models.language import wrap
from tests.small_architectures import small
from tests.unit.data.small_tokenizers import TOKENIZERS

GREEDY = Settings(temperature=0)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_together_are_the_text_of_the_whole_response(name):
    tokenizer = TOKENIZERS[name]()
    dice = random.Random(name)
    for _ in range(50):
        prompt = tokenizer("Hello, how are you?")["input_ids"] + [dice.randrange(13)]
        response = [dice.randrange(len(tokenizer)) for _ in range(30)]
        decoder = TokenDecoder(tokenizer, prompt)
        pieces = [decoder.add(token) for token in response]
        assert "".join(pieces) + decoder.rest() == response_text(tokenizer, prompt, response)


@pytest.mark.parametrize("text", ["naïve 🦙🦙 中国 ok", "a  b\n\n  c ", "👩‍👩‍👧", " é"])
def test_no_piece_holds_a_broken_character(text):
    tokenizer = TOKENIZERS["byte_level"]()
    decoder = TokenDecoder(tokenizer, tokenizer("Hi")["input_ids"])
    pieces = [decoder.add(token) for token in tokenizer(text)["input_ids"]]
    assert "".join(pieces) == text
    assert decoder.rest() == ""
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_is_never_completed_comes_at_the_end():
    tokenizer = TOKENIZERS["byte_level"]()
    decoder = TokenDecoder(tokenizer, [])
    ids = tokenizer("a🦙")["input_ids"]
    assert [decoder.add(token) for token in ids[:-1]] == ["a", "", "", ""]
    assert decoder.rest() == "\ufffd"


def test_a_model_without_a_cache_writes_what_evaluation_has_of_it():
    tokenizer = TOKENIZERS["byte_level"]()
    module = small("mamba", vocab_size=len(tokenizer))
    model = wrap(module, tokenizer, name="./mamba", form="document")
    answer = begin_answer(model, (), "3 + 4 =", GREEDY.with_changes(max_new_tokens=6))
    pieces = list(answer)
    prompt = model.encode_document("3 + 4 =")
    (expected,) = generate(model, [prompt], max_new_tokens=6, batch_size=1, seed=0)
    assert "".join(pieces) == expected.text
    assert answer.num_tokens > 1


def test_greedy_answers_are_those_of_evaluation(chat_model, document_model):
    for model in (chat_model, document_model):
        for text in ("Hello", "3 + 4 =", "naïve 中国"):
            answer = begin_answer(model, (), text, GREEDY.with_changes(max_new_tokens=40))
            pieces = list(answer)
            prompt = (
                model.encode_chat([("user", text)])
                if model.encode_chat
                else model.encode_document(text)
            )
            (expected,) = generate(model, [prompt], max_new_tokens=40, batch_size=1, seed=0)
            assert "".join(pieces) == answer.text == expected.text
            assert (answer.num_tokens, answer.ended) == (len(expected.token_ids), expected.ended)


def test_an_end_token_ends_an_answer_and_is_not_shown(chat_model):
    more = frozenset(range(100, 150))
    model = replace(chat_model, eos_token_ids=chat_model.eos_token_ids | more)
    hot = Settings(temperature=3, max_new_tokens=100)
    for text in "abc":
        free, ended = (begin_answer(each, (), text, hot) for each in (chat_model, model))
        written = zip(free, ended, strict=False)
        assert all(piece == of_free for of_free, piece in list(written)[:-1])
        assert ended.ended == "eos"
        assert ended.num_tokens < 100


def test_the_same_seed_gives_the_same_answer_and_another_attempt_another(chat_model):
    def text(attempt=0, **changed):
        settings = Settings(temperature=2, max_new_tokens=30).with_changes(**changed)
        answer = begin_answer(chat_model, (), "Hello", settings, attempt=attempt)
        return "".join(answer)

    assert text() == text()
    assert len({text(), text(attempt=1), text(seed=1)}) == 3


def test_draws_follow_the_probabilities_and_top_p_takes_the_fewest_likeliest():
    probabilities = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64)
    grid = [(number + 0.5) / 200 for number in range(200)]

    def shares(**changed):
        settings = Settings(temperature=1).with_changes(**changed)
        drawn = [pick(probabilities.log(), settings, uniform) for uniform in grid]
        return [drawn.count(token) / 200 for token in range(4)]

    assert shares() == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=0.006)
    assert shares(top_p=0.7) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.006)
    assert shares(top_p=0.5) == [0, 1, 0, 0]
    assert shares(top_p=1e-9) == [0, 1, 0, 0]
    squares = (probabilities**2 / (probabilities**2).sum()).tolist()
    assert shares(temperature=0.5) == pytest.approx(squares, abs=0.006)
    for cold in (0, 1e-300):
        assert shares(temperature=cold) == [0, 1, 0, 0]


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([float("-inf"), 0.0, float("-inf")], dtype=torch.float64)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert pick(logits, Settings(temperature=1), uniform) == 1
        assert pick(logits, Settings(temperature=1, top_p=0.9), uniform) == 1


def test_weights_that_give_nan_are_an_error_not_a_text(make_model):
    model = make_model()
    with torch.no_grad():
        model.module.lm_head.weight.fill_(float("nan"))
    with pytest.raises(PosttrainError, match=r"\./tiny: gives NaN instead of probabilities"):
        list(begin_answer(model, (), "Hello", GREEDY))
