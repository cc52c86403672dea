"""Tiny models with a tokenizer of their own, and trainers of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.ppo import PPOTrainer
from tests.ppo_tasks import EOS, PAD, plain, tiny_llama, tiny_tokenizer
from tests.unit.rl.small_trainers import VOCABULARY, MakeTrainer, confident, count_of_sevens


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer(VOCABULARY)


@pytest.fixture
def llama() -> Any:
    """A Llama of 2 layers, 16 wide, whose predictions differ from token to token."""
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    module: Any = tiny_llama(0, VOCABULARY, **shape)
    return confident(module)


@pytest.fixture
def gpt2() -> Any:
    """A GPT-2 like it: learned positions, tied embeddings."""
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64, "vocab_size": VOCABULARY}
    ids = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": None}
    dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return confident(GPT2LMHeadModel(GPT2Config(**shape, **ids, **dropout)))


@pytest.fixture
def lora() -> LoraConfig:
    return LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture
def make_trainer(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> MakeTrainer:
    """Make a trainer of a model, with rewards for t7 unless others are given."""

    def make(module: Any, *, rewards: Any = None, rows: Any = None, **settings: Any) -> PPOTrainer:
        mine = ("eval_dataset", "critic", "ref_model", "peft_config", "callbacks", "on_rollout")
        parts = {name: settings.pop(name) for name in mine if name in settings}
        defaults = {"per_device_train_batch_size": 4, "max_completion_length": 5}
        return PPOTrainer(
            module,
            [count_of_sevens] if rewards is None else rewards,
            PPOConfig(**{**plain(tmp_path), **defaults, "total_episodes": 8, **settings}),
            [{"input_ids": ids} for ids in ([3, 4], [5], [6, 7, 8])] if rows is None else rows,
            tokenizer,
            **parts,
        )

    return make
