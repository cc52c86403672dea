"""A model in process as a judge's respondent: options by likelihood, texts by sampling."""

import asyncio
import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eval.model import Form
from pipeline.models.language import wrap
from pipeline.models.respondent import ModelRespondent
from reward.judges.exchange import NoReply, Reply, Request
from reward.judges.ledger import Ledger
from tests.small_folders import small_tokenizer


def respondent(form: Form = "chat", *, batch_size: int = 8, seed: int = 0) -> ModelRespondent:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        eos_token_id=1,
        initializer_range=0.3,
    )
    model = wrap(LlamaForCausalLM(config), small_tokenizer(), name="tiny", form=form)
    return ModelRespondent(
        model, identity={"model": "tiny"}, seed=seed, batch_size=batch_size, ledger=Ledger()
    )


def ask(one: ModelRespondent, *requests: Request) -> list[Any]:
    return asyncio.run(one.reply(requests))


def choice(text: str, *options: str) -> Request:
    return Request((("user", text),), options=options)


def total(one: ModelRespondent, asked: str, answer: str) -> float:
    """Return the log-probability of an answer's tokens after a question's, one step at a time."""
    tokenizer, module = one._model.tokenizer, one._model.module  # pyright: ignore[reportPrivateUsage]
    context, continued = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, answer)
    )
    with torch.no_grad():
        logits = module(torch.tensor([context + continued])).logits[0].log_softmax(-1)
    places = range(len(context) - 1, len(context) + len(continued) - 1)
    return sum(float(logits[place, token]) for place, token in zip(places, continued, strict=True))


def test_an_option_is_likely_as_a_whole_answer_with_the_end_of_its_turn() -> None:
    one = respondent()
    (reply,) = ask(one, choice("How good?", "1", "10", "2"))
    asked = "<|user|>How good?<|end|><|assistant|>"
    by_hand = {option: total(one, asked, f"{option}<|end|>") for option in ("1", "10", "2")}
    norm = math.log(sum(map(math.exp, by_hand.values())))
    for option, logprob in by_hand.items():
        assert reply.probabilities[option] == pytest.approx(math.exp(logprob - norm), abs=1e-5)
    assert sum(reply.probabilities.values()) == pytest.approx(1)
    assert reply.answer == max(by_hand, key=lambda option: by_hand[option])


def test_a_model_of_documents_is_asked_by_one_and_answers_with_a_line() -> None:
    one = respondent("document")
    (reply,) = ask(one, choice("How good?", "A", "B"))
    a, b = (total(one, "How good?\n\nAnswer:", f" {option}\n") for option in ("A", "B"))
    assert reply.probabilities["A"] == pytest.approx(1 / (1 + math.exp(b - a)), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_a_request_is_answered_depends_on_no_other_request(batch_size: int) -> None:
    requests = [choice(f"Which {'x' * n}?", "A", "B") for n in (0, 9, 3, 0)]
    requests.insert(2, Request((("user", "Write."),), max_tokens=40, temperature=1.0))
    together = ask(respondent(batch_size=batch_size), *requests)
    for request, reply in zip(requests, together, strict=True):
        (alone,) = ask(respondent(), request)
        assert type(alone) is type(reply)
        if isinstance(alone, Reply):
            assert reply.answer == alone.answer
            assert reply.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_equal_requests_are_answered_once_and_alike() -> None:
    one = respondent()
    first, _, third = ask(
        one, choice("Same?", "A", "B"), choice("Other?", "A", "B"), choice("Same?", "A", "B")
    )
    assert first == third
    assert one._ledger.prompt_tokens == sum(  # pyright: ignore[reportPrivateUsage]
        reply.prompt_tokens
        for reply in ask(respondent(), *(choice(q, "A", "B") for q in ("Same?", "Other?")))
    )


def test_a_question_that_does_not_fit_has_no_answer_and_the_others_have_theirs() -> None:
    one = respondent()
    long, short = choice("x" * 200, "A", "B"), choice("x", "A", "B")
    free = Request((("user", "x" * 60),), max_tokens=80)
    replies = ask(one, long, short, free)
    assert [isinstance(reply, NoReply) for reply in replies] == [True, False, True]
    assert {replies[0].cause, replies[2].cause} == {"too_long"}
    assert "128 positions" in replies[0].detail


def test_a_text_is_drawn_by_the_seed_and_the_request_alone_and_one_that_is_cut_is_none() -> None:
    asked = [
        Request((("user", "Say."),), max_tokens=100, temperature=1.0, draw=draw)
        for draw in range(12)
    ]
    texts = ask(respondent(), *asked)
    assert texts == ask(respondent(batch_size=5), *asked)
    assert texts != ask(respondent(seed=1), *asked)
    ended = [reply for reply in texts if isinstance(reply, Reply)]
    assert len({reply.answer for reply in ended}) == len(ended) > 0
    cut = ask(respondent(), Request((("user", "Say."),), max_tokens=1))
    assert isinstance(cut[0], NoReply)
    assert cut[0].cause in ("cut_off", "empty")


def test_a_template_without_a_system_turn_is_told_in_the_first_question() -> None:
    one = respondent()
    template = one._model.tokenizer  # pyright: ignore[reportPrivateUsage]
    template.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}"
        "{% endif %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    from pipeline.data.encoding.chat import ChatEncoder

    one._chat = ChatEncoder(template)  # pyright: ignore[reportPrivateUsage]
    told = Request((("system", "Judge."), ("user", "Good?")), options=("A", "B"))
    assert ask(one, told) == ask(one, choice("Judge.\n\nGood?", "A", "B"))
