"""Completions: what decides them, their log-probabilities, and the state a model is left in.

Numbers like B08 name what went wrong in other implementations of PPO; each test says what.
"""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from eval.asking.decoding import fill_holes
from pipeline.rl.sampler import LoopSampler, Sampling, length_groups

VOCAB, POSITIONS, PAD = 48, 96, 0
PROMPTS = [
    [5, 6, 7],
    [8],
    [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    [21, PAD, 22, PAD],
    [PAD, 23],
    *([30 + length] * length for length in range(1, 15)),
]


def llama(**changes) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**config, **changes})).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    config = GPT2Config(vocab_size=VOCAB, **sizes, initializer_range=0.2)
    return GPT2LMHeadModel(config).eval()


def mistral() -> MistralForCausalLM:
    """Sees 8 tokens back: its cache has layers that cannot be joined or grow in place."""
    torch.manual_seed(0)
    config = MistralConfig(**{**llama().config.to_dict(), "sliding_window": 8})
    return MistralForCausalLM(config).eval()


def llama_of_odd_size() -> LlamaForCausalLM:
    """Its heads are of 10 numbers: such layers grow by copies."""
    return llama(head_dim=10)


MODELS = {made.__name__: made for made in (llama, gpt2, mistral, llama_of_odd_size)}


def sampling(**changes) -> Sampling:
    settings = {"max_new_tokens": 12, "temperature": 1.0, "pad_token_id": PAD}
    return Sampling(**{**settings, "eos_token_ids": frozenset({1, 2, 3}), **changes})


def sample(module, prompts=PROMPTS, *, keys=None, seed=0, **changes):
    keys = range(len(prompts)) if keys is None else keys
    return LoopSampler(sampling(**changes))(module, prompts, keys=keys, seed=seed)


def expected_logprobs(module, prompt, completion, temperature, forbidden=()):
    """What one pass over the whole row, without padding, gives the sampled tokens."""
    tokens = completion.token_ids
    with torch.no_grad():
        logits = module(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].float()
    logits[:, list(forbidden)] = -torch.inf
    logprobs = torch.log_softmax(logits / temperature, -1)
    return logprobs.gather(-1, torch.tensor(tokens).unsqueeze(-1)).squeeze(-1)


def largest_gap(module, completions, prompts=PROMPTS, temperature=1.0, forbidden=()) -> float:
    gaps = [
        (expected_logprobs(module, p, c, temperature, forbidden) - torch.tensor(c.logprobs)).abs()
        for p, c in zip(prompts, completions, strict=True)
    ]
    return float(torch.cat(gaps).max())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("name", MODELS)
def test_logprobs_are_those_of_one_full_forward_pass_without_padding(name, temperature) -> None:
    """B01, B23, B43, B44: shifted by one, without the temperature, positions that count padding."""
    module = MODELS[name]()
    completions = sample(module, temperature=temperature)
    assert len({len(each.token_ids) for each in completions}) > 3, "rows must end apart"
    # In fp64, since two passes in fp32 are as far from each other as both are from it together.
    exact = copy.deepcopy(module).double()
    assert largest_gap(exact, completions, temperature=temperature) <= 1e-5


def test_logprobs_of_a_bf16_policy_are_summed_up_in_fp32() -> None:
    """B56: log_softmax of bf16 logits errs by hundredths."""
    module = llama().to(torch.bfloat16)
    assert largest_gap(module, sample(module)) < 0.05
    with torch.no_grad():
        logits = module(torch.tensor([PROMPTS[0]])).logits[0, -1].float()
    first = sample(module, PROMPTS[:1], max_new_tokens=1)[0]
    expected = torch.log_softmax(logits, -1)[first.token_ids[0]]
    assert first.logprobs == pytest.approx([float(expected)], abs=1e-5)


def test_padding_that_is_the_end_token_changes_nothing() -> None:
    """B05: a mask from `ids != pad` loses the end token where both are one."""
    module = llama()
    apart = sample(module)
    same = sample(module, pad_token_id=1)
    assert same == apart
    ended = [each for each in same if each.has_eos]
    assert any(each.token_ids[-1] == 1 for each in ended), "the stop token is part of it"


def test_the_padding_token_inside_a_prompt_is_a_token_like_others() -> None:
    """B06: masks from `ids != pad` hide it. PROMPTS has it, first and in the middle."""
    module = gpt2()
    inside = [prompt for prompt in PROMPTS if PAD in prompt]
    assert inside
    assert largest_gap(module, sample(module, inside), inside) <= 5e-6


def test_a_forbidden_token_is_never_sampled_and_the_others_share_its_probability() -> None:
    """B08: a sampled padding token is masked afterwards, and the ratio is not 1."""
    module = gpt2()
    module.lm_head.weight = torch.nn.Parameter(module.lm_head.weight.clone())
    module.lm_head.weight.data[PAD] = 0.1 * module.transformer.ln_f.weight.data
    module.transformer.ln_f.bias.data += 3.0  # now every logit of the padding token is high
    free = sample(module, eos_token_ids=frozenset())
    assert sum(each.token_ids.count(PAD) for each in free) > 100
    held = sample(module, eos_token_ids=frozenset(), forbidden_ids=(PAD, 7))
    assert not {PAD, 7} & {token for each in held for token in each.token_ids}
    assert largest_gap(module, held, forbidden=(PAD, 7)) <= 5e-6


@pytest.mark.parametrize("eos", [frozenset[int](), frozenset({9}), frozenset({5, 9, 17})])
def test_any_end_token_ends_a_completion_and_belongs_to_it(eos) -> None:
    """B41: one end token of several was known. B42: none was, as generation_config had none.

    Which ids they are is collected by pipeline.models.language.eos_token_ids.
    """
    module = llama()
    module.generation_config.eos_token_id = 4
    completions = sample(module, eos_token_ids=eos, max_new_tokens=40)
    assert {each.token_ids[-1] for each in completions if each.has_eos} == eos
    for each in completions:
        assert not eos & set(each.token_ids[:-1])
        assert each.has_eos == (each.token_ids[-1] in eos)
        assert each.has_eos or len(each.token_ids) == 40
        assert len(each.logprobs) == len(each.token_ids)


def test_an_end_token_as_the_last_one_allowed_is_an_end() -> None:
    module = llama()
    alone = sample(module, max_new_tokens=40, eos_token_ids=frozenset({9}))
    row = next(row for row, each in enumerate(alone) if 1 < len(each.token_ids) < 40)
    limit = len(alone[row].token_ids)
    cut = sample(module, max_new_tokens=limit, eos_token_ids=frozenset({9}))
    assert cut[row] == alone[row]
    assert cut[row].has_eos


@pytest.mark.parametrize("name", MODELS)
def test_batch_size_and_neighbours_change_no_completion(name) -> None:
    module = MODELS[name]()
    together = sample(module)
    for batch_size in (1, 7):
        apart = sample(module, batch_size=batch_size)
        assert [each.token_ids for each in apart] == [each.token_ids for each in together]
        for one, other in zip(apart, together, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    some = [11, 3, 17, 0]
    chosen = sample(module, [PROMPTS[row] for row in some], keys=some)
    assert [each.token_ids for each in chosen] == [together[row].token_ids for row in some]


def test_a_row_draws_by_its_key_and_not_by_its_process_or_place() -> None:
    """B58: with one seed in all processes, all sampled the same completions."""
    module, prompts = llama(), [[5, 6, 7]] * 6
    whole = sample(module, prompts, keys=range(6))
    assert len({tuple(each.token_ids) for each in whole}) == 6
    ranks = [sample(module, prompts[:3], keys=keys) for keys in ((0, 2, 4), (1, 3, 5))]
    assert [ranks[key % 2][key // 2].token_ids for key in range(6)] == [
        each.token_ids for each in whole
    ]
    assert sample(module, prompts, keys=range(6), seed=1) != whole


def test_draws_follow_the_models_distribution() -> None:
    module, prompt, temperature = llama(initializer_range=0.4), [5, 6, 7], 1.5
    drawn = sample(
        module, [prompt] * 10_000, max_new_tokens=1, temperature=temperature, batch_size=5_000
    )
    tokens = torch.tensor([each.token_ids[0] for each in drawn])
    with torch.no_grad():
        logits = module(torch.tensor([prompt])).logits[0, -1].double()

    def p_value(at: float) -> float:
        expected = torch.softmax(logits / at, -1) * len(tokens)
        return float(chisquare(tokens.bincount(minlength=VOCAB), expected).pvalue)

    assert p_value(temperature) > 1e-3
    assert p_value(temperature * 1.1) < 1e-6, "the test would not see a wrong temperature"


def test_the_second_token_follows_the_distribution_after_the_first() -> None:
    module, prompt = llama(initializer_range=0.4), [5, 6, 7]
    drawn = sample(
        module, [prompt] * 10_000, max_new_tokens=2, eos_token_ids=frozenset(), batch_size=5_000
    )
    pairs = torch.tensor([each.token_ids for each in drawn])
    first = int(pairs[:, 0].mode().values)
    seconds = pairs[pairs[:, 0] == first, 1]
    with torch.no_grad():
        logits = module(torch.tensor([[*prompt, first]])).logits[0, -1].double()
    expected = torch.softmax(logits, -1) * len(seconds)
    assert chisquare(seconds.bincount(minlength=VOCAB), expected).pvalue > 1e-3


def counted_tokens(module) -> list[int]:
    seen: list[int] = []

    def count(_, __, inputs) -> None:
        seen.append(inputs["input_ids"].numel())

    module.register_forward_pre_hook(count, with_kwargs=True)
    return seen


def test_a_model_in_training_with_checkpointing_runs_each_token_once() -> None:
    """B50: gradient checkpointing switches the cache off, and every token costs a whole pass."""
    module = llama(attention_dropout=0.5)
    seen = counted_tokens(module)  # a hook, so that the module's own pass runs
    still = sample(module, eos_token_ids=frozenset())
    seen.clear()
    module.train()
    module.model.layers[0].mlp.eval()  # what someone froze stays frozen
    module.gradient_checkpointing_enable()
    assert sample(module, eos_token_ids=frozenset()) == still, "no dropout"
    padded, written = len(PROMPTS) * max(map(len, PROMPTS)), len(PROMPTS) * 11
    assert written < sum(seen) <= padded + written, "the 12th token is not run"
    assert module.is_gradient_checkpointing
    assert module.training
    assert module.model.layers[1].mlp.training
    assert not module.model.layers[0].mlp.training


def test_after_an_error_the_model_is_as_it_was() -> None:
    """B51: upstream's context manager leaves gradient checkpointing off."""
    module = llama().train()
    module.gradient_checkpointing_enable()
    flags = [vars(each).get("gradient_checkpointing") for each in module.modules()]
    met: list[bool] = []

    def fail(*_) -> None:
        met.extend((module.training, torch.is_grad_enabled(), module.is_gradient_checkpointing))
        raise RuntimeError("as planned")

    module.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="as planned"):
        sample(module)
    assert met == [False, False, False]
    assert module.training
    assert torch.is_grad_enabled()
    assert [vars(each).get("gradient_checkpointing") for each in module.modules()] == flags


def test_a_model_that_sampled_can_be_trained() -> None:
    """B55: tensors of inference mode cannot enter a later backward pass.

    This model keeps frequencies of its positions from the first pass beyond 16 tokens.
    """
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": 6.0}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16}
    module = llama(rope_parameters={**rope, **factors})
    sample(module)
    kept = [each for part in module.modules() for each in vars(part).values()]
    assert any(isinstance(each, torch.Tensor) and each.is_inference() for each in kept)
    row = torch.arange(4, 36).unsqueeze(0)
    module(row, labels=row).loss.backward()
    assert all(each.grad is not None for each in module.parameters())


def test_an_adapter_takes_part_and_its_checkpointing_comes_back() -> None:
    base = llama()
    bare = sample(base)
    policy = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    policy.train()
    policy.gradient_checkpointing_enable()
    adapted = sample(policy)
    assert policy.training
    assert policy.is_gradient_checkpointing
    assert "gradient_checkpointing" not in vars(policy), "it is the base model's"
    policy.eval()
    assert largest_gap(policy, adapted) <= 5e-6
    assert adapted != bare


def test_a_prompt_that_many_rows_ask_for_is_run_once() -> None:
    module = llama()
    seen = counted_tokens(module)
    prompts = [prompt for prompt in PROMPTS[:3] for _ in range(16)]
    completions = sample(module, prompts, max_new_tokens=2, eos_token_ids=frozenset())
    assert sum(seen) - len(prompts) <= 3 * max(map(len, prompts))
    assert largest_gap(llama(), completions, prompts) <= 5e-6


@pytest.mark.parametrize("shared", [20, 40])
def test_a_beginning_that_all_prompts_share_changes_nothing(shared) -> None:
    module = gpt2()
    prompts = [[*range(4, 4 + shared), *prompt] for prompt in PROMPTS]
    assert largest_gap(module, sample(module, prompts), prompts) <= 5e-6


def test_a_prompt_without_room_is_named_and_nothing_is_cut() -> None:
    prompts = [[5], [6] * (POSITIONS - 11)]
    with pytest.raises(ValueError, match="prompt 1 has 85 tokens and 12 may be written"):
        sample(llama(), prompts)
    cut = sample(llama(), prompts, max_new_tokens=11, eos_token_ids=frozenset())
    assert [len(each.token_ids) for each in cut] == [11, 11]


def test_input_no_completion_can_be_made_of_is_refused() -> None:
    """B53: an empty prompt has no last token. B45, B23: a temperature of 0 has no distribution."""
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        sample(llama(), [[5], []])
    with pytest.raises(ValueError, match="2 prompts and 1 keys"):
        sample(llama(), [[5], [6]], keys=[0])
    with pytest.raises(ValueError, match="temperature 0"):
        sampling(temperature=0)
    with pytest.raises(ValueError, match="max_new_tokens 0"):
        sampling(max_new_tokens=0)
    with pytest.raises(ValueError, match="batch_size 0"):
        sampling(batch_size=0)
    with pytest.raises(ValueError, match=r"tokens \[2\] end a completion"):
        sampling(forbidden_ids=(2, 7))


def test_broken_weights_are_reported_and_not_sampled_from() -> None:
    module = llama()
    module.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        sample(module)


def test_progress_counts_completions_and_a_short_last_batch_is_whole() -> None:
    """B53: sizes that do not divide."""
    seen: list[int] = []
    sampler = LoopSampler(sampling(batch_size=4))
    written = sampler(llama(), PROMPTS, keys=range(19), seed=0, on_progress=seen.append)
    assert len(written) == 19
    assert seen == list(range(1, 20))
    assert sampler(llama(), [], keys=[], seed=0) == []


def test_prompts_are_grouped_by_length_and_a_small_rest_joins_the_last_group() -> None:
    prompts = [(1,) * length for length in (40, 39, *[31] * 8, *[22] * 9, 9, 8)]
    groups = length_groups(prompts)
    assert [len(group) for group in groups] == [10, 11]
    assert [prompt for group in groups for prompt in group] == prompts


@pytest.mark.parametrize("finished", [[], [0], [4], [0, 4], [1, 2, 3], [0, 1, 2, 3, 4]])
def test_rows_that_finish_are_replaced_by_the_last_ones_and_no_others_move(finished) -> None:
    places = fill_holes(5, finished)
    assert sorted(places) == [place for place in range(5) if place not in finished]
    assert sum(after != before for after, before in enumerate(places)) <= len(finished)
