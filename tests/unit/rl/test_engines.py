"""Other samplers: `generate` on real models. vLLM: test_vllm_rollouts.py."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pipeline.rl.engines import (
    GenerateSampler,
    cut_at_stop,
)
from pipeline.rl.sampler import Completion, Sampling

VOCAB, POSITIONS, PAD = 48, 64, 0
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [21, PAD, 22, PAD], [PAD, 23]]


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**config, **changes})).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **sizes, initializer_range=0.2)).eval()


def adapted(module: Any, *, std: float = 0.2, **changes: Any) -> Any:
    policy = get_peft_model(module, LoraConfig(r=4, target_modules="all-linear", **changes))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    return policy.eval()


def sampling(**changes: Any) -> Sampling:
    settings = {"max_new_tokens": 10, "temperature": 1.0, "pad_token_id": PAD}
    return Sampling(**{**settings, "eos_token_ids": frozenset({1, 2, 3}), **changes})


def largest_gap(
    module: Any, completions: list[Completion], how: Sampling, prompts: Any = None
) -> float:
    """Against one pass over each whole row, without padding."""
    gaps = [0.0]
    for prompt, completion in zip(prompts or PROMPTS, completions, strict=True):
        tokens = torch.tensor(completion.token_ids)
        with torch.no_grad():
            logits = module(torch.tensor([[*prompt, *tokens.tolist()]])).logits[0]
        logits = logits[len(prompt) - 1 : -1].float()
        logits[:, list(how.forbidden_ids)] = -torch.inf
        expected = torch.log_softmax(logits / how.temperature, -1)
        found = expected.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        gaps.append(float((found - torch.tensor(completion.logprobs)).abs().max()))
    return max(gaps)


@pytest.mark.parametrize("temperature", [0.6, 1.4])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_generates_logprobs_are_those_of_one_full_forward_pass(make, temperature) -> None:
    """B23, B43."""
    module, how = make(), sampling(temperature=temperature, forbidden_ids=(PAD, 7))
    completions = GenerateSampler(how)(module, PROMPTS * 4, keys=range(20), seed=0)
    assert len({len(each.token_ids) for each in completions}) > 3
    assert largest_gap(module, completions, how, PROMPTS * 4) <= 5e-6
    assert not {PAD, 7} & {token for each in completions for token in each.token_ids}
    for each in completions:
        assert each.has_eos == (each.token_ids[-1] in how.eos_token_ids)
        assert not how.eos_token_ids & set(each.token_ids[:-1])


def test_settings_that_a_model_brings_along_do_not_leak_into_generate() -> None:
    """B45: top-k, penalties and minimal lengths of a generation_config make the KL negative."""
    module, how = llama(), sampling()
    plain = GenerateSampler(how)(module, PROMPTS, keys=range(5), seed=0)
    own = module.generation_config
    settings = {"do_sample": False, "top_k": 1, "top_p": 0.1, "min_p": 0.5, "temperature": 0.1}
    penalties = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 9}
    for name, value in {**settings, **penalties, "num_beams": 3, "eos_token_id": 4}.items():
        setattr(own, name, value)
    assert GenerateSampler(how)(module, PROMPTS, keys=range(5), seed=0) == plain
    assert module.generation_config is own


def test_generate_leaves_model_and_generators_as_they_were() -> None:
    module = llama(attention_dropout=0.5).train()
    module.gradient_checkpointing_enable()
    own = module.generation_config
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    GenerateSampler(sampling())(module, PROMPTS, keys=range(5), seed=0)
    assert torch.equal(torch.rand(2), expected)
    module.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        GenerateSampler(sampling())(module, PROMPTS, keys=range(5), seed=0)
    assert module.training
    assert module.generation_config is own
    assert vars(module.model)["gradient_checkpointing"]


def test_generate_draws_by_seed_and_first_key() -> None:
    sampler, module = GenerateSampler(sampling(batch_size=2)), llama()
    seen: list[int] = []
    first = sampler(module, PROMPTS, keys=range(5), seed=0, on_progress=seen.append)
    assert seen == [2, 4, 5]
    assert sampler(module, PROMPTS, keys=range(5), seed=0) == first
    assert sampler(module, PROMPTS, keys=range(5), seed=1) != first
    assert sampler(module, PROMPTS, keys=range(5, 10), seed=0) != first
    assert sampler(module, [], keys=[], seed=0) == []


def test_generate_samples_from_the_adapted_policy() -> None:
    policy = adapted(llama())
    completions = GenerateSampler(sampling())(policy, PROMPTS, keys=range(5), seed=0)
    assert largest_gap(policy, completions, sampling()) <= 5e-6


def test_a_row_is_cut_after_its_first_stop_token() -> None:
    """B05: what fills a row up may be the end token itself."""
    how = sampling(eos_token_ids=frozenset({2, PAD}))
    assert cut_at_stop([7], [5, 2, 2, 2], [-1, -2, -3, -4], how) == Completion(
        [5, 2], True, [-1, -2]
    )
    assert cut_at_stop([7], [5, 6], None, how) == Completion([5, 6], False, None)
