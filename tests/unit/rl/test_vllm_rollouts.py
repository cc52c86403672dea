"""Rollouts by a vLLM server, against a stand-in that samples from what it was sent.

The real one: tests/serving/test_vllm_rollouts_for_real.py (`make prove-vllm`).
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from pipeline.config.rollout_engine import rollout_block
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.rl.config.distill import DistillConfig
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.sampler import Sampling
from pipeline.rl.sampling import engine_ended_after, make_sampler
from pipeline.rl.vllm_sampler import VLLMSampler, request_settings
from pipeline.vllm.weights import adapter_of, merge_parameters, save_whole
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.test_engines import adapted, largest_gap, llama
from tests.vllm_server import FakeVLLM, fake_python, serving

pytestmark = pytest.mark.enable_socket
VOCAB, PAD = 48, 0
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [21, PAD, 22, PAD], [PAD, 23]]


def how(**changes: Any) -> Sampling:
    settings = {"max_new_tokens": 10, "temperature": 1.0, "pad_token_id": PAD}
    return Sampling(**{**settings, "eos_token_ids": frozenset({1, 2, 3}), **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    llama().save_pretrained(folder)
    return folder


def sampler_of(folder: Path, sampling: Sampling | None = None, **options: Any) -> VLLMSampler:
    return VLLMSampler(
        sampling or how(),
        rollout_block(options),
        folder=folder / "vllm",
        dtype="float32",
        tokenizer=tiny_tokenizer(VOCAB),
    )


def test_a_server_samples_from_the_adapter_as_it_is_now(base: Path, tmp_path: Path) -> None:
    """B29, B41, B08: it is sent anew, and stop and forbidden tokens with every request."""
    policy, sampling = adapted(llama()), how(temperature=0.8, forbidden_ids=(PAD,))
    with serving(FakeVLLM(base)) as fake:
        sampler = sampler_of(tmp_path, sampling, url=fake.url)
        seen: list[int] = []
        first = sampler(policy, PROMPTS, keys=range(5), seed=0, on_progress=seen.append)
        assert seen == [1, 2, 3, 4, 5]
        assert largest_gap(policy, first, sampling) <= 1e-5
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.data *= -1
        moved = sampler(policy, PROMPTS, keys=range(5), seed=0)
        assert [one.token_ids for one in moved] != [one.token_ids for one in first]
        assert largest_gap(policy, moved, sampling) <= 1e-5
        assert sampler(policy, PROMPTS, keys=range(5), seed=0) == moved
        asked = [path for path, _ in fake.asked]
        assert asked.count("/v1/load_lora_adapter") == 2  # the same one is not sent again
        assert len(fake.adapters) == 1
        rows = [body for path, body in fake.asked if path == "/v1/completions"][1:6]
        assert sorted(body["prompt"] for body in rows) == sorted(PROMPTS)
        assert rows[0]["logit_bias"] == {str(PAD): -100.0}
        assert rows[0]["stop_token_ids"] == [1, 2, 3]
        sampler.close()
        assert not fake.adapters


def test_rows_with_one_prompt_draw_apart_and_alike_for_one_key(base: Path, tmp_path: Path) -> None:
    """B58: with one seed for a whole request its rows draw alike."""
    policy = adapted(llama())
    with serving(FakeVLLM(base)) as fake:
        sampler = sampler_of(tmp_path, url=fake.url)
        drawn = sampler(policy, [[5, 6, 7]] * 6, keys=range(6), seed=0)
        assert len({tuple(each.token_ids) for each in drawn}) == 6
        assert sampler(policy, [[5, 6, 7]] * 2, keys=[4, 1], seed=0) == [drawn[4], drawn[1]]


def test_the_reference_is_the_network_without_the_adapter(base: Path, tmp_path: Path) -> None:
    policy = adapted(llama())
    with serving(FakeVLLM(base)) as fake:
        sampler = sampler_of(tmp_path, url=fake.url)
        with policy.disable_adapter():
            theirs = sampler(policy.get_base_model(), PROMPTS, keys=range(5), seed=0)
            assert largest_gap(policy, theirs, how()) <= 1e-5
        own = sampler(policy, PROMPTS, keys=range(5), seed=0)
        assert largest_gap(policy, own, how()) <= 1e-5
        with pytest.raises(PosttrainError, match="not that of another model"):
            sampler(llama(), PROMPTS, keys=range(5), seed=0)


@pytest.mark.parametrize("kind", ["whole", "merged", "dora"])
def test_weights_are_sent_where_no_adapter_is(base: Path, tmp_path: Path, kind: str) -> None:
    module = llama()
    changes = {"use_dora": True} if kind == "dora" else {}
    policy = module if kind == "whole" else adapted(module, **changes)
    options = {"sends": "weights"} if kind == "merged" else {}
    with serving(FakeVLLM(base)) as fake:
        sampler = sampler_of(tmp_path, url=fake.url, **options)
        for number in range(2):
            for name, parameter in policy.named_parameters():
                if kind == "whole" or "lora_B" in name:
                    parameter.data += 0.1 * (number + 1)
            found = sampler(policy, PROMPTS, keys=range(5), seed=0)
            assert largest_gap(policy, found, how()) <= 1e-5
        asked = [path for path, _ in fake.asked]
        assert asked.count("/collective_rpc") == asked.count("/reset_prefix_cache") == 2
        assert len(list((tmp_path / "vllm").glob("sent-*"))) == 1  # the one before is gone


@pytest.mark.parametrize(
    ("fake", "options", "said"),
    [
        ({"raw": True}, {}, "`--logprobs-mode processed_logprobs`"),
        ({"updates": False}, {}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 .* --max-lora-rank 4"),
        ({"develops": False}, {"sends": "weights"}, "VLLM_SERVER_DEV_MODE=1"),
        ({"room": 12}, {}, "takes 12 tokens a row, and one may have 16"),
    ],
)
def test_a_server_that_cannot_be_trained_with_is_refused(
    base: Path, tmp_path: Path, fake: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with serving(FakeVLLM(base, **fake)) as server:
        sampler = sampler_of(tmp_path, url=server.url, **options)
        with pytest.raises(PosttrainError, match=said) as error:
            sampler(adapted(llama()), PROMPTS, keys=range(5), seed=0)
    assert error.value.exit_code == 2


def test_a_server_that_is_not_there_is_the_machines_fault(base: Path, tmp_path: Path) -> None:
    with serving(FakeVLLM(base)) as fake:
        url = fake.url
    with pytest.raises(InfrastructureError, match="does not answer"):
        sampler_of(tmp_path, url=url)(adapted(llama()), PROMPTS, keys=range(5), seed=0)


def test_what_a_server_writes_against_its_orders_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = adapted(llama())
    for tokens, said in (([5, PAD, 1], f"the token {PAD}"), ([5, 5], "an end that is none")):
        with serving(FakeVLLM(base)) as fake:
            sampler = sampler_of(tmp_path, how(forbidden_ids=(PAD,)), url=fake.url)
            sampler(policy, [[5]], keys=[0], seed=0)
            answer = {"token_ids": tokens, "logprobs": {"token_logprobs": [-1.0] * len(tokens)}}
            monkeypatch.setattr(fake, "_complete", lambda _, answer=answer: {"choices": [answer]})
            with pytest.raises(PosttrainError, match=said):
                sampler(policy, [[5]], keys=[0], seed=0)


def test_a_server_is_started_on_the_network_and_ended(tmp_path: Path) -> None:
    policy = adapted(llama())
    sampler = sampler_of(tmp_path, python=str(fake_python(tmp_path)))
    with engine_ended_after(sampler):
        found = sampler(policy, PROMPTS, keys=range(5), seed=0)
        assert largest_gap(policy, found, how()) <= 1e-5
        url = sampler._child.url  # type: ignore[union-attr]
    with pytest.raises(InfrastructureError):
        sampler_of(tmp_path, url=url)(policy, PROMPTS, keys=range(5), seed=0)


def test_a_server_that_dies_is_said_in_one_line(tmp_path: Path) -> None:
    policy = adapted(llama())
    sampler = sampler_of(tmp_path, python=str(fake_python(tmp_path, dies_after=3)))
    with engine_ended_after(sampler), pytest.raises(InfrastructureError) as error:
        sampler(policy, PROMPTS, keys=range(5), seed=0)
    assert "ended by signal 9" in str(error.value)
    assert "run again to go on" in error.value.hint


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho ValueError: no such thing\nexit 7\n")
    broken.chmod(0o755)
    sampler = sampler_of(tmp_path, python=str(broken))
    with pytest.raises(InfrastructureError, match="ended with code 7: ValueError: no such thing"):
        sampler(adapted(llama()), PROMPTS, keys=range(5), seed=0)
    with pytest.raises(PosttrainError, match="`nowhere` is no program"):
        sampler_of(tmp_path, python="nowhere")


def test_what_is_sent_of_an_adapter_has_its_scale_inside(tmp_path: Path) -> None:
    """Ranks and scales may be each layer's own; vLLM is told one of both."""
    config = LoraConfig(
        r=4, lora_alpha=16, use_rslora=True, rank_pattern={"q_proj": 8}, alpha_pattern={"v_proj": 3}
    )
    policy = get_peft_model(llama(), config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    sent = adapter_of(policy)
    assert sent is not None
    assert sent.rank == 8
    sent.save(tmp_path / "sent")
    from peft import PeftModel

    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = policy.eval()(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(llama(), str(tmp_path / "sent")).eval()
        assert torch.allclose(theirs(input_ids=ids).logits, expected, atol=1e-6)


def test_adapters_that_vllm_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="plain LoRA alone"):
        adapter_of(adapted(llama(), use_dora=True))
    whole = {"modules_to_save": ["lm_head"], "exclude_modules": ["lm_head"]}
    policy = adapted(llama(), **whole)
    with pytest.raises(ValueError, match="lm_head"):
        adapter_of(policy)
    with pytest.raises(ValueError, match="lm_head"):
        list(merge_parameters(policy))
    assert adapter_of(llama()) is None


@pytest.mark.parametrize("use_dora", [False, True])
def test_adapters_are_merged_into_copies(use_dora: bool) -> None:
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


def test_adapters_that_are_switched_off_are_not_merged(tmp_path: Path) -> None:
    base = llama(tie_word_embeddings=True)
    own = {name: tensor.clone() for name, tensor in base.named_parameters()}
    assert "lm_head.weight" not in own
    policy = adapted(base, exclude_modules=["lm_head"])
    policy.add_adapter("critic", LoraConfig(r=2, target_modules=["q_proj"]))
    name = "model.layers.0.self_attn.q_proj.weight"
    with policy.disable_adapter():
        off = dict(merge_parameters(policy.get_base_model()))
    without = dict(merge_parameters(policy, merges=False))
    for sent in (off, without):
        assert sent.keys() == own.keys()
        assert all(torch.equal(sent[name], own[name]) for name in own)
    assert not torch.equal(dict(merge_parameters(policy))[name], own[name])
    save_whole(policy, tmp_path / "whole", merges=False)
    loaded = type(base).from_pretrained(tmp_path / "whole")
    assert all(torch.equal(loaded.state_dict()[name], own[name]) for name in own)


def test_requests_say_all_that_a_server_would_fill_in() -> None:
    settings = request_settings(how(), 7, begun=4)
    assert settings["max_tokens"] == 6
    assert settings["ignore_eos"]
    assert {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"} <= settings.keys()


@pytest.mark.parametrize("config", [PPOConfig, GRPOConfig, RLOOConfig])
def test_what_vllm_sampled_is_weighed(config: Any, tmp_path: Path) -> None:
    settings = {**plain(tmp_path), "per_device_train_batch_size": 8}
    assert config(**settings).objective.correction is None
    args = config(**settings, rollout_engine="vllm")
    assert args.objective.correction == "sequence_mask"
    assert args.objective.correction_high == 3.0
    off = config(**settings, rollout_engine="vllm", vllm_importance_sampling_correction=False)
    assert off.objective.correction is None


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (PPOConfig, {"reuse_rollout_logprobs": True}, "no gap between them would be seen"),
        (GRPOConfig, {"loss_type": "vespo"}, "vllm_importance_sampling_correction: false"),
        (PPOConfig, {"vllm_options": {"url": "nowhere"}}, "`nowhere` is no address"),
        (PPOConfig, {"vllm_options": {"mode": "server"}}, "`mode`"),
        (DistillConfig, {}, "is for PPO, GRPO and RLOO"),
        (PPOConfig, {"rollout_engine": "own", "vllm_options": {"at_once": 2}}, "are for"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    config: Any, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    usual = {**plain(tmp_path), "per_device_train_batch_size": 8, "rollout_engine": "vllm"}
    with pytest.raises(ValueError, match=said):
        config(**{**usual, **settings})


def test_a_sampler_is_made_of_the_config(tmp_path: Path) -> None:
    settings = {"rollout_engine": "vllm", "vllm_options": {"url": "http://other:8000/v1"}}
    args = PPOConfig(**plain(tmp_path), **settings, bf16=True)
    made = make_sampler(how(), args, tiny_tokenizer(VOCAB))
    assert isinstance(made, VLLMSampler)
    assert made._dtype == "bfloat16"
    assert made.block.url == "http://other:8000/v1"
    with pytest.raises(ValueError, match="tools are not called with vLLM"):
        make_sampler(how(), args, tiny_tokenizer(VOCAB), tools=object())  # type: ignore[arg-type]
    with pytest.raises(PosttrainError, match="vLLM is not installed beside posttrain"):
        make_sampler(how(), PPOConfig(**plain(tmp_path), rollout_engine="vllm"), None)
