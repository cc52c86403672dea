"""Which token pads changes nothing: SFT, reward model and DPO keep their weights to the bit."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.recipe.load import load
from pipeline.run.runner import run
from pipeline.store.store import Store
from tests.small_folders import small_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
name: padding
seed: 3
stages:
  sft:
    stage: sft
    model: ./model
    data: {file: pairs.jsonl, columns: {completion: chosen}}
    batch_size: 4
    training_args: {learning_rate: 1e-2, max_steps: 3, max_length: 64}
  rm:
    stage: reward_model
    model: ./model
    data: {file: pairs.jsonl}
    batch_size: 4
    training_args: {learning_rate: 1e-2, max_steps: 3, max_length: 64}
  dpo:
    stage: dpo
    model: ./model
    data: {file: pairs.jsonl}
    batch_size: 4
    training_args: {learning_rate: 1e-2, max_steps: 3, max_length: 64}
"""


def _trained(folder: Path, padding: str) -> dict[str, dict[str, torch.Tensor]]:
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    folder.mkdir()
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.add_special_tokens({"pad_token": padding})  # [PAD] is new, and has no row
    tokenizer.save_pretrained(folder / "model")
    dice = random.Random(0)
    rows = [
        {
            "prompt": "abc"[: 1 + number % 3],
            "chosen": "x" * dice.randint(1, 9),
            "rejected": "y" * dice.randint(1, 9),
        }
        for number in range(16)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    run(load(folder / "recipe.yaml"), Store(folder / "runs"), say=lambda _: None)
    found = (folder / "runs" / "padding").glob("*/model.safetensors")
    return {path.parent.name: load_file(path) for path in found}


@pytest.mark.slow
def test_which_token_pads_changes_no_weight(tmp_path: Path) -> None:
    expected = _trained(tmp_path / "eos", "<|end|>")
    assert set(expected) == {"sft", "rm", "dpo"}
    for name, padding in (("begin", "<|begin|>"), ("beyond", "[PAD]")):
        found = _trained(tmp_path / name, padding)
        for stage, tensors in expected.items():
            for key, tensor in tensors.items():
                assert torch.equal(found[stage][key], tensor), (padding, stage, key)
