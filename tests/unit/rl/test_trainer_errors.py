"""What PPOTrainer refuses, and the sentence it says then: before anything is sampled."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig
from tokenizers import Tokenizer, models
from transformers import (
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pipeline.rewards.terms import function_term
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.ppo import PPOTrainer
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import VOCABULARY, MakeTrainer, count_of_sevens

SEVENS = function_term(count_of_sevens, "sevens", 2.0)

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"kl_estimator": "k4"}, "`kl_estimator` is `k4`; write k1, k2 or k3"),
    (
        {"layout": "shared"},
        "`layout` is `shared`; write auto, separate, shared_lora or shared_trunk",
    ),
    ({"loss_aggregation": "mean"}, "`loss_aggregation` is `mean`; write token, seq or seq_sum"),
    ({"truncation": "none"}, "`truncation` is `none`; write terminal or bootstrap"),
    ({"rollout_engine": "trl"}, "`rollout_engine` is `trl`; write own, generate or vllm"),
    ({"num_ppo_epochs": 0}, "`num_ppo_epochs` is 0; it must be above 0"),
    ({"temperature": 0.0}, "`temperature` is 0.0; it must be above 0"),
    ({"kl_target": 0.0}, "`kl_target` is 0.0; it must be above 0, or none"),
    ({"cliprange_value": 0.0}, "`cliprange_value` is 0.0; it must be above 0, or none"),
    ({"kl_coef": -0.1}, "`kl_coef` is -0.1; it must be 0 or above"),
    ({"kl_coef": 0.0, "kl_target": 6.0}, "`kl_target` steers `kl_coef` by factors"),
    ({"reward_clip": [1.0]}, "`reward_clip` is [1.0]; write [lowest, highest] score"),
    ({"lam": 1.1}, "`lam` is 1.1; it must be from 0 to 1"),
    ({"cliprange": 1.0}, "`cliprange` is 1.0; it must be between 0 and 1"),
    ({"dual_clip": 1.0}, "`dual_clip` is 1.0; it must be above 1, or none"),
    ({"fp16": True}, "`fp16` underflows in ratios; use bf16 or fp32"),
    ({"auto_find_batch_size": True}, "`auto_find_batch_size` would change the algorithm"),
    ({"ignore_data_skip": True}, "`ignore_data_skip` would start a resumed run with its first"),
]


@pytest.mark.parametrize(("settings", "said"), SETTINGS, ids=lambda value: str(value)[:30])
def test_settings_that_cannot_be_meant_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        PPOConfig(**plain(tmp_path), **settings)
    assert said in str(refused.value)


PROMPTS: list[tuple[list[Any], str]] = [
    ([], "there are no prompts"),
    ([{"prompt": "t3"}, {"text": "t4"}], "row 1 has no `prompt` and no `input_ids`"),
    (
        [{"prompt": [{"role": "user", "content": "t3"}]}],
        "row 0 is a chat, and the tokenizer has no",
    ),
    ([{"prompt": "  "}], "the prompt of row 0 has no token"),
    ([{"input_ids": [3] * 60}], "the prompt of row 0 has 60 tokens, more than 59"),
]


@pytest.mark.parametrize(("rows", "said"), PROMPTS, ids=lambda value: str(value)[:30])
def test_prompts_that_cannot_be_asked_are_refused(
    rows: list[Any], said: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        make_trainer(llama, rows=rows)
    assert said in str(refused.value)


def another_network() -> Any:
    return LlamaForSequenceClassification(
        LlamaConfig(
            **{"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_labels": 1},
            **{"num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0},
        )
    )


SHARED = {"layout": "shared_lora"}
LORA = LoraConfig(r=2, target_modules=["q_proj"])
PARTS: list[tuple[Callable[[Any], dict[str, Any]], str]] = [
    (lambda _: SHARED, "the layout `shared_lora` trains adapters; give a `peft_config`"),
    (
        lambda module: {**SHARED, "peft_config": LORA, "ref_model": copy.deepcopy(module)},
        "`shared_lora` has the policy as it came in for its reference",
    ),
    (
        lambda _: {**SHARED, "peft_config": LORA, "critic": another_network()},
        "in the layout `shared_lora` the critic starts from the policy, or is an adapter",
    ),
    (
        lambda _: {"layout": "shared_trunk", "critic": another_network()},
        "in the layout `shared_trunk` the critic is a head on the policy",
    ),
    (
        lambda _: {"critic": "nowhere"},
        "`nowhere` holds no critic: it has no value_head.safetensors",
    ),
    (
        lambda _: {"peft_config": IA3Config(task_type="CAUSAL_LM")},
        "PPO trains LoRA adapters, not IA3",
    ),
    (
        lambda _: {"max_completion_length": 64},
        "`max_completion_length` 64 leaves no room for a prompt in the 64 positions of the model",
    ),
    (lambda _: {"rewards": []}, "a reward is made of one term at least"),
    (lambda _: {"reward_weights": [1.0, 2.0]}, "2 `reward_weights` for 1 rewards"),
    (lambda _: {"rewards": [lambda text: [0.0]]}, "a reward function is called with"),
    (
        lambda _: {"reward_clip": [1.0, -1.0]},
        "reward clip [1.0, -1.0] is no range from low to high",
    ),
    (
        lambda _: {"critic": "reward"},
        "there is no reward model among the rewards for the critic to start from",
    ),
    (
        lambda _: {"rewards": [SEVENS], "reward_weights": [3.0]},
        "`reward_weights` has 3.0 for a RewardTerm of 2.0",
    ),
]


@pytest.mark.parametrize(("parts", "said"), PARTS, ids=[said[-30:] for _, said in PARTS])
def test_parts_that_do_not_go_together_are_refused(
    parts: Callable[[Any], dict[str, Any]], said: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        make_trainer(llama, **parts(llama))
    assert said in str(refused.value)


def test_a_model_without_a_folder_needs_its_tokenizer(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a model without a folder needs `processing_class`"):
        PPOTrainer(llama, [count_of_sevens], PPOConfig(**plain(tmp_path)), [{"input_ids": [3]}])


def test_a_policy_that_has_no_way_to_end_is_refused(llama: Any, tmp_path: Path) -> None:
    """B42: it would write to the limit each time."""
    llama.config.eos_token_id = llama.generation_config.eos_token_id = None
    tokenizer = tiny_tokenizer(32)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="names a token that ends a text"):
        PPOTrainer(
            llama,
            [count_of_sevens],
            PPOConfig(**plain(tmp_path), max_completion_length=5),
            [{"input_ids": [3]}],
            tokenizer,
        )


def test_a_model_with_a_head_of_an_unknown_kind_is_refused(make_trainer: MakeTrainer) -> None:
    """B01: its log-probabilities would be others than those it samples by."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 32}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    module = HyperCLOVAXForCausalLM(HyperCLOVAXConfig(**shape, **heads, **ids, logits_scaling=3.0))
    with pytest.raises(ValueError, match="HyperCLOVAXForCausalLM makes its logits in a way"):
        make_trainer(module)


def test_a_reward_model_of_the_hub_is_checked_by_its_own_tokenizer(
    llama: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its id: there is no folder of that name."""
    snapshot = tmp_path / "hub/models--org--rm/snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("a" * 40)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = LlamaConfig(**shape, num_hidden_layers=1, num_labels=1, vocab_size=VOCABULARY)
    LlamaForSequenceClassification(config).save_pretrained(snapshot)
    words = {f"t{(number + 1) % VOCABULARY}": number for number in range(VOCABULARY)}
    shifted = Tokenizer(models.WordLevel(words, unk_token="t2"))
    own = PreTrainedTokenizerFast(tokenizer_object=shifted, pad_token="t0", eos_token="t1")
    own.save_pretrained(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match=r"of `org/rm` and of .*`t1` is 0 to the reward model"):
        make_trainer(llama, rewards=["org/rm"])
