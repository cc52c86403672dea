"""What a batch's rows share is run once, and changes nothing."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, MptConfig, MptForCausalLM

import eval.asking.prefix as prefix
from eval.asking.loglik import continuation_logprobs
from eval.asking.prefix import shared_length
from eval.asking.sampler import generate
from tests.unit.eval.conftest import NUM_TOKENS, POSITIONS, language_model

SHOTS = "2 + 2 = 4\n3 + 5 = 8\n1 + 7 = 8\n"
ENDS = ["4 + 4 =", "1 + 1 =", "12 + 35 =", "7 ="]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1] * 20], 0),  # one row shares with none
        ([[1] * 20 + [2], [1] * 20 + [3]], 20),
        ([[1] * 20, [1] * 20], 19),  # each keeps a token to be asked about
        ([[1] * 20, [1] * 30, [1] * 25 + [2]], 19),
        ([[1] * 5 + [2], [1] * 5 + [3]], 0),  # not worth a pass of its own
        ([[2, *[1] * 20], [1] * 21], 0),
    ],
)
def test_the_shared_beginning_is_as_long_as_all_rows_have_it(rows, expected):
    assert shared_length(rows) == expected


@pytest.fixture
def passes(tiny, monkeypatch):
    """Count the tokens that go through the model."""
    seen: list[int] = []
    forward = tiny.module.forward

    def counted(*args, **kwargs):
        seen.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny.module, "forward", counted)
    return seen


def test_choices_after_the_same_demonstrations_cost_less_and_stay_the_same(
    tiny, passes, monkeypatch
):
    pairs = [
        (tiny.encode_document(SHOTS + end), tiny.encode_document(f" {number}")[1:])
        for end in ENDS
        for number in (7, 81)
    ]
    shared = continuation_logprobs(tiny, pairs, batch_size=100)
    tokens_shared = sum(passes)
    passes.clear()
    monkeypatch.setattr(prefix, "_WORTH_IT", 10**6)
    apart = continuation_logprobs(tiny, pairs, batch_size=100)
    assert shared == pytest.approx(apart, rel=1e-5, abs=1e-4)
    assert tokens_shared < 0.5 * sum(passes)


def test_responses_after_the_same_demonstrations_stay_the_same(tiny, passes, monkeypatch):
    prompts = [tiny.encode_document(SHOTS + end) for end in ENDS]

    def written():
        found = generate(tiny, prompts, max_new_tokens=12, temperature=1.0, batch_size=8, seed=3)
        return [each.token_ids for each in found]

    shared, first_pass = written(), passes[0]
    monkeypatch.setattr(prefix, "_WORTH_IT", 10**6)
    assert shared == written()
    assert first_pass == len(tiny.encode_document(SHOTS)), "the demonstrations went through once"


def windowed():
    return MistralForCausalLM(
        MistralConfig(
            **{"vocab_size": NUM_TOKENS, "hidden_size": 32, "intermediate_size": 48},
            **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
            **{"max_position_embeddings": POSITIONS, "sliding_window": 8, "initializer_range": 0.5},
        )
    )


def biased_by_distance():
    config = MptConfig(
        vocab_size=NUM_TOKENS, d_model=32, n_layers=2, n_heads=4, max_seq_len=POSITIONS
    )
    return MptForCausalLM(config)


@pytest.mark.parametrize("module", [windowed, biased_by_distance])
def test_shorter_questions_after_the_same_demonstrations_are_no_further_from_them(module):
    torch.manual_seed(0)
    made = module()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(8 if module is biased_by_distance and weight.ndim > 1 else 1)
    model = language_model(made.eval())
    prompts = [model.encode_document(SHOTS + end) for end in ENDS]
    together = generate(model, prompts, max_new_tokens=8, batch_size=8, seed=0)
    alone = [generate(model, [each], max_new_tokens=8, batch_size=1, seed=0)[0] for each in prompts]
    assert together == alone
