"""Other samplers: `generate` on real models; vLLM against stand-ins with the signatures TRL calls.

The stand-in for a server is a real model that loads the tensors it is sent and samples from them.
"""

import inspect
import sys
import types
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

from pipeline.errors import PosttrainError
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.engines import (
    GenerateSampler,
    VLLMSampler,
    cut_at_stop,
    request_settings,
    row_seed,
)
from pipeline.rl.sampler import Completion, LoopSampler, Sampling
from pipeline.rl.sampling import make_sampler
from pipeline.rl.vllm_engines import OPTIONS, ColocatedEngine, ServerEngine, merge_parameters
from tests.ppo_tasks import plain

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


def test_without_vllm_the_error_says_what_to_install() -> None:
    assert find_spec("vllm") is None, "this machine has vLLM: test it for real"
    for mode in ("colocate", "server"):
        with pytest.raises(PosttrainError, match=r"pip install 'posttrain\[vllm\]'"):
            VLLMSampler(sampling(), mode=mode)


class FakeClient:
    """A server: loads what it is sent into a model of its own and samples from that."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.requests: list[dict[str, Any]] = []
        self.resets = 0

    def generate(
        self,
        prompts,
        features=None,
        n=1,
        repetition_penalty=1.0,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        max_tokens=16,
        logprobs=0,
        structured_outputs_regex=None,
        generation_kwargs=None,
    ):
        own = generation_kwargs or {}
        neutral = (n, repetition_penalty, top_p, top_k, min_p, logprobs) == (1, 1.0, 1.0, 0, 0.0, 0)
        assert neutral
        assert own["ignore_eos"]
        self.requests.append({"prompts": prompts, **own})
        how = Sampling(
            max_tokens,
            temperature,
            frozenset(own["stop_token_ids"]),
            PAD,
            forbidden_ids=tuple(own["logit_bias"]),
        )
        keys = [0] * len(prompts)
        written = LoopSampler(how)(self.module, prompts, keys=keys, seed=own["seed"])
        return {
            "prompt_ids": prompts,
            "completion_ids": [each.token_ids for each in written],
            "logprobs": [[[logprob] for logprob in each.logprobs or ()] for each in written],
            "logprob_token_ids": [[[token] for token in each.token_ids] for each in written],
        }

    def update_named_params(self, metadata, named_params):
        received = {name: tensor.clone() for name, tensor in named_params}
        announced = [
            (name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
            for name, tensor in received.items()
        ]
        assert metadata == announced
        self.module.load_state_dict(received)

    def reset_prefix_cache(self):
        self.resets += 1


@pytest.mark.parametrize("name", ["generate", "update_named_params", "reset_prefix_cache"])
def test_the_fake_client_has_the_signature_of_trls(name) -> None:
    theirs = inspect.signature(getattr(VLLMClient, name)).parameters.values()
    ours = inspect.signature(getattr(FakeClient, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs
    ]


def test_a_server_samples_from_the_policy_as_it_is_now() -> None:
    """B29, B41, B08: merged weights arrive, and stop and forbidden tokens with every request."""
    policy, how = adapted(llama()), sampling(temperature=0.8, forbidden_ids=(PAD,))
    client = FakeClient(llama(initializer_range=0.01))
    sampler = VLLMSampler(how, mode="server", engine=ServerEngine(client))
    seen: list[int] = []
    completions = sampler(policy, PROMPTS, keys=range(5), seed=0, on_progress=seen.append)
    assert seen == [5]
    assert largest_gap(policy, completions, how) <= 1e-5
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data *= -1
    moved = sampler(policy, PROMPTS, keys=range(5), seed=0)
    assert largest_gap(policy, moved, how) <= 1e-5
    assert client.resets == 2
    assert [request["prompts"] for request in client.requests[:5]] == [[p] for p in PROMPTS]
    assert client.requests[0]["logit_bias"] == {PAD: -100.0}
    assert client.requests[0]["stop_token_ids"] == [1, 2, 3]


def test_rows_with_one_prompt_draw_apart_and_alike_for_one_key() -> None:
    """B58: with one seed for a whole request its rows draw alike."""
    sampler = VLLMSampler(sampling(), engine=ServerEngine(FakeClient(llama())))
    drawn = sampler(llama(), [[5, 6, 7]] * 6, keys=range(6), seed=0)
    assert len({tuple(each.token_ids) for each in drawn}) == 6
    assert sampler(llama(), [[5, 6, 7]] * 2, keys=[4, 1], seed=0) == [drawn[4], drawn[1]]
    assert row_seed(0, 1) != row_seed(1, 0)
    assert all(0 <= row_seed(seed, 2**41) < 2**63 for seed in range(100))


def test_requests_bind_to_what_trl_and_its_engine_take() -> None:
    settings = request_settings(sampling(), 7)
    known = inspect.signature(VLLMClient.generate).parameters
    assert {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"} <= set(known)
    assert settings["logprobs"] == 0
    taken = inspect.signature(VLLMGeneration.__init__).parameters
    assert {"model", "accelerator", "processing_class", "mode"} | OPTIONS["colocate"] <= set(taken)
    assert OPTIONS["server"] <= set(inspect.signature(VLLMClient.__init__).parameters)


@pytest.mark.parametrize("use_dora", [False, True])
def test_adapters_are_merged_into_copies(use_dora) -> None:
    """B29: merging in place and taking it out again at each call changes bf16 weights for good."""
    policy = adapted(llama().to(torch.bfloat16), std=3.0, use_dora=use_dora)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    with torch.no_grad():
        for _ in range(10):
            sent = {name: tensor.clone() for name, tensor in merge_parameters(policy)}
    after = policy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    merged = policy.merge_and_unload().state_dict()
    assert sent.keys() == merged.keys()
    assert all(torch.equal(sent[name], merged[name]) for name in merged)


def test_adapters_that_are_switched_off_are_not_merged() -> None:
    base = llama(tie_word_embeddings=True)
    plain = {name: tensor.clone() for name, tensor in base.named_parameters()}
    assert "lm_head.weight" not in plain
    policy = adapted(base, exclude_modules=["lm_head"])
    policy.add_adapter("critic", LoraConfig(r=2, target_modules=["q_proj"]))
    with policy.disable_adapter():
        sent = dict(merge_parameters(policy.get_base_model()))
    assert sent.keys() == plain.keys()
    assert all(torch.equal(sent[name], plain[name]) for name in plain)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(dict(merge_parameters(policy))[name], plain[name])


def test_an_adapter_that_trains_whole_modules_is_refused() -> None:
    policy = adapted(llama(), modules_to_save=["lm_head"], exclude_modules=["lm_head"])
    with pytest.raises(ValueError, match="lm_head"):
        list(merge_parameters(policy))


@dataclass
class FakeParams:
    """What vLLM's SamplingParams would be given."""

    given: dict[str, Any]


class FakeLLM:
    """An engine in this process, down to where TRL puts the weights."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.received: dict[str, torch.Tensor] = {}
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self.received.update))
        executor = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=executor)

    def reset_prefix_cache(self) -> None:
        self.module.load_state_dict(self.received)

    def generate(self, prompts, sampling_params, use_tqdm):
        assert not use_tqdm
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            given = params.given
            how = Sampling(
                given["max_tokens"], given["temperature"], frozenset(given["stop_token_ids"]), PAD
            )
            ids = prompt["prompt_token_ids"]
            written = LoopSampler(how)(self.module, [ids], keys=[0], seed=given["seed"])[0]
            steps = zip(written.token_ids, written.logprobs or (), strict=True)
            logprobs = [{token: SimpleNamespace(rank=1, logprob=value)} for token, value in steps]
            completion = SimpleNamespace(token_ids=written.token_ids, logprobs=logprobs)
            outputs.append(SimpleNamespace(outputs=[completion], prompt_token_ids=ids))
        return outputs


def test_an_engine_in_this_process_samples_from_the_policy_as_it_is_now(monkeypatch) -> None:
    """TRL's VLLMGeneration itself syncs the weights; only vLLM is a stand-in."""
    vllm: Any = types.ModuleType("vllm")
    vllm.SamplingParams = lambda **given: FakeParams(given)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    started: list[Any] = []

    def start(self) -> None:
        started.append(self)

    monkeypatch.setattr(VLLMGeneration, "_init_vllm", start)
    policy, how = adapted(llama()), sampling()
    engine = ColocatedEngine.start(policy, {"gpu_memory_utilization": 0.3})
    assert started == [engine.generation]
    assert engine.generation.gpu_memory_utilization == 0.3
    engine.generation.llm = FakeLLM(llama(initializer_range=0.01))
    sampler = VLLMSampler(how, engine=engine)
    completions = sampler(policy, PROMPTS, keys=range(5), seed=0)
    assert largest_gap(policy, completions, how) <= 1e-5
    with policy.disable_adapter():
        bare = policy.get_base_model()
        assert largest_gap(bare, sampler(bare, PROMPTS, keys=range(5), seed=0), how) <= 1e-5


@pytest.mark.parametrize(
    ("mode", "options", "said"),
    [
        ("colocate", {"tensor_parallel_size": 2}, "runs on one device and does not sleep"),
        ("colocate", {"enable_sleep_mode": True}, "start a server and write `vllm_mode: server`"),
        (
            "colocate",
            {"base_url": "x"},
            "has no `base_url` with `vllm_mode` colocate; it takes gpu_",
        ),
        ("server", {"temperature": 2.0}, "has no `temperature` with `vllm_mode` server; it takes"),
    ],
)
def test_options_that_do_not_reach_vllm_are_refused(mode, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        VLLMSampler(sampling(), mode=mode, options=options)


def test_settings_of_vllm_come_from_the_config(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.rl.engines.require_vllm", lambda: None)
    options = {"base_url": "http://other:8000", "connection_timeout": 60.0}
    settings = {"vllm_mode": "server", "vllm_options": options}
    made = make_sampler(sampling(), PPOConfig(**plain(tmp_path), rollout_engine="vllm", **settings))
    assert isinstance(made, VLLMSampler)
    assert (made.mode, made.options) == ("server", options)
    with pytest.raises(ValueError, match="are for `rollout_engine` vllm"):
        PPOConfig(**plain(tmp_path), **settings)
