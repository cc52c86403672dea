"""Responses: what decides them, and what must not."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from eval.asking.sampler import generate, response_text
from eval.model import StopRequested

TEXTS = ["a", "Once upon a time", "2+2=", "x" * 40, "The end", "no", "Q: why?\nA:", "hello there"]


def encoded(model, texts=TEXTS):
    return [model.encode_document(text) for text in texts]


def greedy_without_cache(model, prompt, num_tokens):
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num_tokens):
            ids.append(int(model.module(torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_greedy_responses_are_the_argmax_of_a_full_forward_pass_at_every_step(tiny):
    responses = generate(tiny, encoded(tiny), max_new_tokens=12, batch_size=8, seed=0)
    for prompt, response in zip(encoded(tiny), responses, strict=True):
        expected = greedy_without_cache(tiny, prompt, 12)
        assert response.token_ids == expected[: len(response.token_ids)]
        assert (response.ended == "length") == (len(response.token_ids) == 12)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["tiny_with_many_endings", "tiny_gpt2_with_many_endings"])
def test_batch_size_changes_no_response(request, name, temperature, attention):
    model = request.getfixturevalue(name)
    model.module.set_attn_implementation(attention)
    settings = {"max_new_tokens": 20, "temperature": temperature, "seed": 3, "stop": ["7", "e "]}
    alone = generate(model, encoded(model), batch_size=1, **settings)
    for batch_size in (3, 8):
        assert generate(model, encoded(model), batch_size=batch_size, **settings) == alone
    assert len({len(response.token_ids) for response in alone}) > 2  # rows did end apart


def test_samples_follow_the_models_probabilities(tiny):
    prompt, num_samples, temperature = tiny.encode_document("2+2="), 4000, 4.0
    responses = generate(
        tiny,
        [prompt] * num_samples,
        max_new_tokens=1,
        temperature=temperature,
        batch_size=1000,
        seed=1,
    )
    with torch.no_grad():
        logits = tiny.module(torch.tensor([prompt])).logits[0, -1]
    expected = torch.softmax(logits.double() / temperature, -1)
    drawn = torch.tensor([response.token_ids[0] for response in responses])
    observed = drawn.bincount(minlength=len(expected)) / num_samples
    standard_error = (expected * (1 - expected) / num_samples).sqrt()
    assert ((observed - expected).abs() <= 4 * standard_error + 1 / num_samples).all()


def test_a_sample_is_fixed_by_the_seed_and_the_prompts_place_alone(tiny):
    prompts = encoded(tiny, ["same", "same", "other"])
    settings = {"max_new_tokens": 20, "temperature": 3.0, "batch_size": 2}
    first = generate(tiny, prompts, seed=5, **settings)
    assert generate(tiny, prompts, seed=5, **settings) == first
    assert generate(tiny, prompts[:1], seed=5, **settings) == first[:1]
    assert generate(tiny, prompts, seed=6, **settings) != first
    assert first[0] != first[1]


def test_a_response_ends_before_the_earliest_stop_string_though_tokens_split_it(tiny):
    prompt = tiny.encode_document("Once upon a time")
    free = generate(tiny, [prompt], max_new_tokens=30, batch_size=1, seed=0)[0]
    longer, stop, later = free.text[7:10], free.text[8:10], free.text[15:18]
    stopped = generate(
        tiny, [prompt], max_new_tokens=30, batch_size=1, seed=0, stop=[later, stop, longer]
    )[0]
    end = free.text.index(stop) + len(stop)
    assert stopped.ended == "stop"
    assert stopped.text == free.text[: end - len(longer)]
    assert stopped.token_ids == free.token_ids[:end]


def test_an_end_token_is_kept_in_the_ids_and_left_out_of_the_text(tiny_with_many_endings):
    model = tiny_with_many_endings
    responses = generate(
        model, encoded(model), max_new_tokens=50, temperature=2.0, batch_size=8, seed=0
    )
    ended = [response for response in responses if response.ended == "eos"]
    assert ended
    for response in ended:
        assert response.token_ids[-1] in model.eos_token_ids
        assert not model.eos_token_ids & set(response.token_ids[:-1])
        assert response.text == model.tokenizer.decode(response.token_ids[:-1])


def test_a_prompt_without_room_for_the_response_is_refused_by_its_place(tiny):
    prompts = encoded(tiny, ["short", "x" * 90])
    with pytest.raises(ValueError, match="prompt 1 has 91 tokens and 6 may be written"):
        generate(tiny, prompts, max_new_tokens=6, batch_size=2, seed=0)
    assert len(generate(tiny, prompts, max_new_tokens=5, batch_size=2, seed=0)) == 2


def test_progress_reaches_the_number_of_prompts_and_a_stop_request_ends_the_work(tiny):
    seen = []
    settings = {"max_new_tokens": 4, "batch_size": 3, "seed": 0}
    generate(tiny, encoded(tiny), on_progress=seen.append, **settings)
    assert seen == list(range(1, len(TEXTS) + 1))
    with pytest.raises(StopRequested):
        generate(tiny, encoded(tiny), should_stop=lambda: True, **settings)


def test_broken_weights_are_reported_and_not_sampled_from(tiny):
    weight = tiny.module.model.norm.weight
    kept = weight.detach().clone()
    weight.data.fill_(float("nan"))
    try:
        with pytest.raises(ValueError, match="NaN"):
            generate(tiny, encoded(tiny), max_new_tokens=1, batch_size=8, seed=0)
    finally:
        weight.data.copy_(kept)


def test_a_character_split_between_prompt_and_response_comes_out_whole():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = byte_level
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    ids = tokenizer("un café noir")["input_ids"]
    inside = len(b"un caf") + 1  # é is two bytes
    assert response_text(tokenizer, ids[:inside], ids[inside:]) == "é noir"
    assert response_text(tokenizer, ids[: inside + 1], ids[inside + 1 :]) == " noir"


def test_a_leading_space_survives_a_tokenizer_that_strips_it_from_the_first_word():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(
        ["the cat sat on the mat"] * 3, trainers.BpeTrainer(vocab_size=60, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    prompt, whole = (tokenizer(text)["input_ids"] for text in ("the cat", "the cat sat"))
    assert tokenizer.decode(whole[len(prompt) :]) == "sat"
    assert response_text(tokenizer, prompt, whole[len(prompt) :]) == " sat"


@pytest.mark.parametrize("name", ["tiny_with_many_endings", "tiny_gpt2_with_many_endings"])
def test_keys_stand_for_the_place_of_a_prompt_in_all_of_them(request, name):
    model = request.getfixturevalue(name)
    settings = {"max_new_tokens": 12, "temperature": 1.5, "seed": 3, "batch_size": 4}
    whole = generate(model, encoded(model), **settings)
    part = [5, 2, 7]
    prompts = [encoded(model)[number] for number in part]
    assert generate(model, prompts, keys=part, **settings) == [whole[number] for number in part]


@pytest.mark.parametrize("name", ["tiny_with_many_endings", "tiny_gpt2_with_many_endings"])
def test_prompts_that_are_run_once_for_all_who_ask_them_get_the_same_responses(request, name):
    model = request.getfixturevalue(name)
    prompts = [prompt for prompt in encoded(model) for _ in range(3)]
    settings = {"max_new_tokens": 12, "temperature": 1.5, "seed": 3, "batch_size": 10}
    shared = generate(model, prompts, shares_prompts=True, **settings)
    assert shared == generate(model, prompts, **settings)
    assert len({response.token_ids for response in shared}) > len(TEXTS)
