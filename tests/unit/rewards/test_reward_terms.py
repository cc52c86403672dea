"""Reward models on the ids that were sampled, and the tasks' verifiers on the text."""

import copy
import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from eval.tasks.arithmetic import Arithmetic
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.reading.records import Message, PreferenceRow
from pipeline.errors import PosttrainError
from pipeline.rewards.responses import Responses
from pipeline.rewards.terms import model_term, verifier_term
from reward.verdict import Verdict
from tests.unit.data.small_tokenizers import OWN, byte_level_tokenizer
from tests.unit.rewards.responses import given_by, responses


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made = byte_level_tokenizer()
    made.chat_template = OWN
    return made


def reward_model(
    tokenizer: PreTrainedTokenizerFast, **settings: Any
) -> LlamaForSequenceClassification:
    torch.manual_seed(1)
    given = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_labels": 1,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return LlamaForSequenceClassification(LlamaConfig(**{**given, **settings}))


def sampled(
    prompt_ids: list[list[int]], completion_ids: list[list[int]], **columns: list[Any]
) -> Responses:
    texts = [""] * len(prompt_ids)
    return Responses(texts, texts, prompt_ids, completion_ids, [True] * len(texts), columns)


def test_a_reward_model_scores_the_ids_that_were_sampled(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """B38: here the sampled ids are not those of their own text."""
    letters = tokenizer.convert_tokens_to_ids(list("answer"))
    assert tokenizer.encode(tokenizer.decode(letters), add_special_tokens=False) != letters
    module = reward_model(tokenizer)
    term = model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer, batch_size=2)
    prompts = [[9, 8, 7, 6], [9], [9, 8]]
    completions = [[*letters, 2], [2], letters]
    found = given_by(term, sampled(prompts, completions))
    for prompt, completion, score in zip(prompts, completions, found, strict=True):
        with torch.no_grad():
            alone = module(input_ids=torch.tensor([prompt + completion])).logits.item()
        assert score == pytest.approx(alone, abs=1e-6)


def test_a_function_reads_the_text_and_gets_the_sampled_ids(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """B38: the text is without the stop token, the ids are with it, and both are handed on."""
    letters = tokenizer.convert_tokens_to_ids(list("answer"))
    end, not_special = tokenizer.convert_tokens_to_ids(["<|end|>", "</think>"])
    chat = [{"role": "user", "content": "What?"}]
    rows = Responses.decode(
        tokenizer,
        [chat, "What?", "What?"],
        prompt_ids=[[9], [9], [9]],
        completion_ids=[[*letters, end], [*letters, not_special], letters],
        has_eos=[True, True, False],
        columns={},
    )
    assert rows.completions == [[{"role": "assistant", "content": "answer"}], "answer", "answer"]
    assert [rows.text(row) for row in range(3)] == ["answer"] * 3
    assert rows.completion_ids[0] == [*letters, end]


def ends_with(tokenizer: PreTrainedTokenizerFast, token_id: int) -> LlamaForSequenceClassification:
    """A reward model whose score is 1 iff the last id is `token_id`, else 0."""
    module = reward_model(tokenizer, num_hidden_layers=0)
    with torch.no_grad():
        weight = module.model.embed_tokens.weight
        weight.zero_()
        weight[:, 1] = 1
        weight[token_id, :2] = torch.tensor([1.0, 0.0])
        module.score.weight.zero_()
        module.score.weight[0, 0] = 1 / math.sqrt(module.config.hidden_size)
    return module


@pytest.mark.parametrize("pads_with_eos", [False, True])
def test_a_reward_model_sees_the_end_of_a_response(
    tokenizer: PreTrainedTokenizerFast, pads_with_eos: bool
) -> None:
    """B39, B05: it tells a response with EOS from one without, even where EOS pads."""
    eos = tokenizer.eos_token_id
    module = ends_with(tokenizer, eos)
    if pads_with_eos:
        module.config.pad_token_id = eos
    usual = module.config.pad_token_id
    term = model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer)
    rows = sampled([[30, 31], [30], [30], [30]], [[32, eos], [32, 32, 32], [eos, 32], [eos]])
    assert given_by(term, rows) == pytest.approx([1, 0, 0, 1], abs=1e-4)
    assert module.config.pad_token_id == usual


def test_a_cut_response_may_end_with_any_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """B05: the reward model's padding is an ordinary token to the policy."""
    module = reward_model(tokenizer)
    module.config.pad_token_id = 40
    term = model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer)
    found = given_by(term, sampled([[8, 9], [8]], [[7, 40], [7, 7, 7, 7, 40]]))
    module.config.pad_token_id = 41
    other = given_by(term, sampled([[8, 9], [8]], [[7, 40], [7, 7, 7, 7, 40]]))
    assert found == pytest.approx(other, abs=1e-6)


def test_a_reward_model_reads_what_it_was_trained_on(tokenizer: PreTrainedTokenizerFast) -> None:
    """B40: the ids it is handed are those that training encodes for the same conversation."""
    turns = (Message("user", "What is 3 + 4?"),)
    pair = encode_pairs([PreferenceRow("row 1", turns, "The answer is 7.", "8")], tokenizer)[0][0]
    module = reward_model(tokenizer)
    read: list[list[int]] = []
    module.register_forward_pre_hook(
        lambda _, args, given: read.extend(given["input_ids"].tolist()), with_kwargs=True
    )
    answer = tokenizer.encode("The answer is 7.", add_special_tokens=False)
    ended = [*answer, tokenizer.convert_tokens_to_ids("<|end|>")]
    term = model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer)
    given_by(term, sampled([ChatEncoder(tokenizer).prompt_ids(turns)], [ended]))
    assert read == [pair.prompt_ids + pair.chosen_ids]


def test_a_reward_model_is_frozen_and_a_critic_made_of_it_can_learn(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """B55: no gradients, no dropout, and nothing left behind that autograd refuses."""
    module = reward_model(
        tokenizer,
        attention_dropout=0.5,
        max_position_embeddings=8,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    ).train()
    term = model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer)
    rows = sampled([[8] * 6], [[7] * 6])
    assert given_by(term, rows) == given_by(term, rows)
    assert not module.training
    assert not any(each.requires_grad for each in module.parameters())
    assert not any(each.is_inference() for each in module.parameters())
    critic = copy.deepcopy(module).requires_grad_(True).train()
    critic(input_ids=torch.tensor([[8] * 10])).logits.sum().backward()
    assert all(each.grad is not None for each in critic.score.parameters())
    assert all(each.grad is None for each in module.parameters())


def test_a_classifier_of_several_classes_is_no_reward_model(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    module = reward_model(tokenizer, num_labels=2)
    with pytest.raises(ValueError, match="the model has 2 outputs; a reward is one"):
        model_term(module, tokenizer, "rm", policy_tokenizer=tokenizer)


def test_a_reward_model_may_be_for_some_sources_only(tokenizer: PreTrainedTokenizerFast) -> None:
    term = model_term(
        ends_with(tokenizer, 7),
        tokenizer,
        "rm",
        policy_tokenizer=tokenizer,
        on=frozenset({"facts"}),
    )
    rows = sampled([[8], [8], [8]], [[7], [7], [6]], source=["facts", "stories", "facts"])
    found = given_by(term, rows)
    assert found[1] is None
    assert [found[0], found[2]] == pytest.approx([1, 0], abs=1e-4)


class Ungradable(Arithmetic):
    """A task whose grader always fails."""

    def verify(self, response: str, reference: str) -> Verdict:
        return Verdict(None)


def test_verifiers_reward_the_responses_to_their_own_tasks() -> None:
    tasks = {"arithmetic": Arithmetic(), "broken": Ungradable()}
    rows = responses(
        *("3 + 4 is 7.", "It is 8.", "It is 7.", "It is 7."),
        source=["arithmetic", "arithmetic", "broken", "my_prompts.jsonl"],
        reference=["7", "7", "7", None],
    )
    assert given_by(verifier_term(tasks, "verify", 2.0), rows) == [1, 0, None, None]


def test_a_prompt_that_cannot_be_verified_is_an_error() -> None:
    rows = responses("7", source=["arithmetic"], reference=[None])
    with pytest.raises(PosttrainError, match=r"response 0 \(`7`\) of `arithmetic` has no `refere"):
        given_by(verifier_term({"arithmetic": Arithmetic()}, "verify"), rows)
