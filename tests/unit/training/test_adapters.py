"""An adapter does the same attached, merged, and saved and loaded by PEFT alone, whatever its kind.

Of every kind that a stage may train, on models whose embeddings are tied and not.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from pipeline.config.blocks import LoraBlock
from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.models import adapter_checks, adapters
from pipeline.models.load import load_policy
from pipeline.models.reward import as_reward_model
from tests.ppo_tasks import tiny_tokenizer
from tests.unit.rl.small_trainers import confident, shaken

IDS = {"vocab_size": 32, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 8}
PARTS = ["q_proj", "v_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": PARTS},
    "all-linear": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "embeddings": {"target_modules": [*PARTS, "embed_tokens"]},
    "head": {"target_modules": [*PARTS, "lm_head"]},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "both ends tied": {"target_modules": [*PARTS, "embed_tokens"], "ensure_weight_tying": True},
    "embeddings whole": {"target_modules": PARTS, "modules_to_save": ["embed_tokens"]},
    "head whole": {"target_modules": PARTS, "modules_to_save": ["lm_head"]},
    "ends whole": {"target_modules": PARTS, "modules_to_save": ["embed_tokens", "lm_head"]},
    "ends whole, tied": {
        **{"target_modules": PARTS, "modules_to_save": ["embed_tokens"]},
        "ensure_weight_tying": True,
    },
    "tokens": {"target_modules": PARTS, "trainable_token_indices": [3, 5]},
}


def llama(*, is_tied: bool) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**IDS, **SIZES, **HEADS, tie_word_embeddings=is_tied)
    return confident(LlamaForCausalLM(config))


def experts(*, is_tied: bool) -> Any:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**IDS, **SIZES, **HEADS, **EXPERTS, tie_word_embeddings=is_tied)
    return confident(Qwen3MoeForCausalLM(config))


def gpt2(*, is_tied: bool) -> Any:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 32}
    return confident(GPT2LMHeadModel(GPT2Config(**IDS, **shape, tie_word_embeddings=is_tied)))


CASES = [(kind, llama, given) for kind, given in KINDS.items()]
CASES += [("fused experts, all-linear", experts, {})]
CASES += [("fused experts", experts, {"target_parameters": ["mlp.experts.down_proj"]})]
CASES += [("Conv1D", gpt2, {}), ("Conv1D, dora", gpt2, {"use_dora": True})]


def trained(module: Any, given: dict[str, Any]) -> Any:
    """Return a model with an adapter that does something."""
    block = LoraBlock.model_validate({"r": 4, **given})
    model: Any = get_peft_model(module, adapters.lora_config(block, task="CAUSAL_LM"))
    shaken((each for each in model.parameters() if each.requires_grad), scale=0.1)
    return model.eval()


def logits(module: Any) -> torch.Tensor:
    with torch.no_grad():
        return module(torch.tensor([[3, 5, 7, 9, 11, 3]])).logits


@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("kind", "made", "given"), CASES, ids=[case[0] for case in CASES])
def test_an_adapter_does_the_same_attached_merged_saved_and_loaded(
    kind: str, made: Any, given: dict[str, Any], is_tied: bool, tmp_path: Path
) -> None:
    module = made(is_tied=is_tied)
    base = tmp_path / "base"
    module.save_pretrained(base)
    tiny_tokenizer(32).save_pretrained(base)
    before = logits(module)
    model = trained(module, given)
    wanted = logits(model)
    assert (wanted - before).abs().max() > 0.01, kind
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    adapters.save(model, adapter, base=str(base), revision=None, earlier=None)

    plain: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    bound = {"atol": 2e-5 * float(wanted.abs().max()), "rtol": 0.0}
    torch.testing.assert_close(logits(plain.eval()), wanted, **bound)
    merged: Any = load_policy(StageInput("adapter", "policy", str(adapter))).eval()
    torch.testing.assert_close(logits(merged), wanted, **bound)
    assert all(each.requires_grad for each in merged.parameters())  # it may be trained in full
    merged.save_pretrained(tmp_path / "merged")
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(loaded), wanted, **bound)


@pytest.mark.parametrize(
    "given", [{}, *(KINDS[kind] for kind in ("embeddings", "both ends", "rslora", "patterns"))]
)
def test_an_adapter_on_an_adapter_is_one_on_the_tied_base(
    given: dict[str, Any], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    llama(is_tied=True).save_pretrained(base)
    folders = [tmp_path / "first", tmp_path / "second"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        start = load_policy(StageInput("start", "policy", str(folders[0] if number else base)))
        model = trained(start, given)
        earlier = folders[0] if number else None
        adapters.save(model, folder, base=str(base), revision=None, earlier=earlier)
        wanted = logits(model)
        found = logits(load_policy(StageInput("found", "policy", str(folder))).eval())
        torch.testing.assert_close(found, wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0.0)


def test_a_reward_model_on_an_adapter_is_trained_in_full(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    llama(is_tied=True).save_pretrained(base)
    adapter.mkdir()
    model = trained(llama(is_tied=True), {})
    adapters.save(model, adapter, base=str(base), revision=None, earlier=None)
    policy = load_policy(StageInput("adapter", "policy", str(adapter)))
    module = as_reward_model(policy, tiny_tokenizer(32))
    assert all(each.requires_grad for each in module.parameters())


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"target_modules": ["q_proj", "query"]}, {}, "the model has no layer `query`; there are "),
    ({"modules_to_save": ["classifier"]}, {}, "the model has no module `classifier`"),
    ({"target_modules": PARTS, "layers_to_transform": [1, 7]}, {}, "has no layer 7 to adapt"),
    ({"rank_pattern": {"query": 3}}, {}, "`query` is no layer that is adapted"),
    ({}, {"use_dora": True}, "with `use_dora`, the one below cannot be made one"),
    (
        {"target_modules": ["embed_tokens"]},
        KINDS["embeddings whole"],
        "`model.embed_tokens` is tra",
    ),
    (
        KINDS["embeddings whole"],
        {"target_modules": ["embed_tokens"]},
        "`model.embed_tokens` is tra",
    ),
]


@pytest.mark.parametrize(("given", "below", "said"), REFUSED)
def test_what_cannot_be_saved_or_meets_nothing_is_refused_before_training(
    given: dict[str, Any], below: dict[str, Any], said: str, tmp_path: Path
) -> None:
    adapters.save(
        trained(llama(is_tied=False), below), tmp_path, base="base", revision=None, earlier=None
    )
    block = LoraBlock.model_validate({"r": 2, **given})
    config = adapters.lora_config(block, task="CAUSAL_LM")
    model: Any = get_peft_model(llama(is_tied=False), config)
    with pytest.raises(PosttrainError, match=said):
        adapter_checks.check_new(model, block, tmp_path, loss="forward")


def test_what_peft_adds_by_itself_is_refused_on_an_adapter_before_training(tmp_path: Path) -> None:
    """It makes parameters of fused experts of what was asked for as layers."""
    first = trained(experts(is_tied=False), {"target_modules": PARTS})
    adapters.save(first, tmp_path, base="base", revision=None, earlier=None)
    assert adapter_checks.count_frozen_experts(first) == 2 * 4 * (16 * 16 + 16 * 8)
    model = trained(experts(is_tied=False), {})
    assert adapter_checks.count_frozen_experts(model) == 0
    block = LoraBlock.model_validate({"r": 4})
    with pytest.raises(PosttrainError, match="with `target_parameters`, this adapter cannot be"):
        adapter_checks.check_new(model, block, tmp_path, loss="forward")
    copied = copy.deepcopy(block)
    adapter_checks.check_new(model, copied, None, loss="forward")


def test_rows_of_tied_embeddings_are_refused_where_the_loss_reads_the_head() -> None:
    block = LoraBlock.model_validate({"r": 4, **KINDS["tokens"]})
    for is_tied in (False, True):
        model = trained(llama(is_tied=is_tied), KINDS["tokens"])
        adapter_checks.check_new(model, block, None, loss="forward")
        if is_tied:
            with pytest.raises(PosttrainError, match="whose weight the loss reads"):
                adapter_checks.check_new(model, block, None, loss="from the head")
        else:
            adapter_checks.check_new(model, block, None, loss="from the head")
