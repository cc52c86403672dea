"""No architecture draws anything at random in a training pass, and its config keeps its rates."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.models.dropout import turn_off_dropout
from pipeline.rl.actor_critic import CRITIC
from pipeline.rl.build import Start, build_actor_critic
from pipeline.rl.config.ppo import PPOConfig
from tests.ppo_tasks import plain, tiny_llama
from tests.unit.rl.small_trainers import shaken, some_batch, values_of

_IDS = {"vocab_size": 32, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
_WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_USUAL = {**_WIDE, "intermediate_size": 32}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
_OPT = {**_WIDE, "ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64}
_XGLM = {"d_model": 16, "ffn_dim": 32, "num_layers": 4, "attention_heads": 2}
_NEO = {"attention_types": [[["global", "local"], 1]], "window_size": 8, "intermediate_size": 32}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}

# Of each architecture: its shape, and the rates that its code reads, one way or another.
RATES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "llama": (_USUAL, ("attention_dropout",)),
    "falcon": ({**_WIDE, "alibi": True}, ("attention_dropout", "hidden_dropout")),
    "gpt_neox": (_USUAL, ("attention_dropout", "hidden_dropout")),
    "bloom": (
        {"hidden_size": 16, "n_layer": 2, "n_head": 2},
        ("attention_dropout", "hidden_dropout"),
    ),
    "gpt2": (_GPT, ("attn_pdrop", "embd_pdrop", "resid_pdrop")),
    "gptj": ({**_GPT, "rotary_dim": 4}, ("attn_pdrop", "embd_pdrop", "resid_pdrop")),
    "gpt_bigcode": (_GPT, ("attn_pdrop", "embd_pdrop", "resid_pdrop")),
    "gpt_neo": (
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, **_NEO},
        ("attention_dropout", "embed_dropout", "resid_dropout"),
    ),
    "opt": (_OPT, ("dropout", "attention_dropout", "layerdrop")),
    "xglm": (_XGLM, ("dropout", "attention_dropout", "activation_dropout", "layerdrop")),
    "biogpt": (
        _USUAL,
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "activation_dropout", "layerdrop"),
    ),
    "phi": (_USUAL, ("attention_dropout", "embd_pdrop", "resid_pdrop")),
    "stablelm": (
        {**_USUAL, "num_key_value_heads": 2, "partial_rotary_factor": 0.5},
        ("attention_dropout", "hidden_dropout"),
    ),
    "starcoder2": (_USUAL, ("attention_dropout", "residual_dropout", "embedding_dropout")),
    "mixtral": ({**_USUAL, **_EXPERTS}, ("attention_dropout", "router_jitter_noise")),
    "phimoe": (
        {**_USUAL, **_EXPERTS},
        ("attention_dropout", "router_jitter_noise", "input_jitter_noise"),
    ),
}


def model_of(kind: str, rate: float) -> Any:
    """A new model all of whose rates are set."""
    shape, names = RATES[kind]
    config: Any = AutoConfig.for_model(kind, **{**shape, **_IDS})
    for name in names:
        assert hasattr(config, name)
        setattr(config, name, rate)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@torch.no_grad()
def hidden_of(actor: Any) -> torch.Tensor:
    return actor.policy_hidden(some_batch().sequences)


def check_quiet(actor: Any) -> None:
    """Two passes of training are one, and are what evaluation computes."""
    shaken(actor.policy_parameters(), scale=0.05)
    shaken(actor.critic_parameters(), scale=0.05)
    actor.train()
    assert not torch.equal(hidden_of(actor), hidden_of(actor))
    assert not torch.equal(values_of(actor), values_of(actor))
    turn_off_dropout(actor, saved=actor.networks())
    hidden, values = hidden_of(actor), values_of(actor)
    assert torch.equal(hidden_of(actor), hidden)
    assert torch.equal(values_of(actor), values)
    actor.eval()
    assert torch.equal(hidden_of(actor), hidden)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", RATES)
def test_no_rate_is_left_between_two_passes(kind: str, attention: str, tmp_path: Path) -> None:
    """B21: of layers, attention, whole layers, routers; from attributes or configs."""
    module = model_of(kind, 0.5)
    if attention == "sdpa" and not module._supports_sdpa:
        pytest.skip("has no sdpa")
    module.set_attn_implementation(attention)
    args = PPOConfig(**plain(tmp_path), layout="separate")
    actor = build_actor_critic(Start(module), args)
    check_quiet(actor)
    actor.save_policy(tmp_path)
    actor.save_critic(tmp_path / CRITIC)
    for folder in (tmp_path, tmp_path / CRITIC):
        saved = json.loads((folder / "config.json").read_text())
        assert all(saved[name] == 0.5 for name in RATES[kind][1])


def test_no_rate_of_an_adapter_is_left(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5, task_type="CAUSAL_LM")
    module: Any = get_peft_model(tiny_llama(0, 32, hidden_size=16), config)
    args = PPOConfig(**plain(tmp_path), layout="shared_lora")
    actor = build_actor_critic(Start(module), args)
    check_quiet(actor)
    actor.save_policy(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == 0.5


def test_a_configs_copy_is_shared_by_those_that_shared_it() -> None:
    module = model_of("falcon", 0.5)
    before = module.config.to_dict()
    turn_off_dropout(module, saved=[module])
    layers: list[nn.Module] = list(module.transformer.h)
    assert len({id(layer.config) for layer in layers}) == 1
    assert layers[0].config is not module.config
    assert module.config.to_dict() == before
