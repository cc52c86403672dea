"""Model folders as users have them: whatever is wrong is said in one line, and said soon."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.errors import PosttrainError
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.models.reward import load_reward_model
from pipeline.stage import StageInput
from tests.hostile_folders import HOSTILE
from tests.small_folders import small_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile_adapters import Hostile

LIMIT_S = 5.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, whole, and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(whole: Path) -> Path:
    """A folder with an adapter of the small model."""
    folder = whole.parent / "adapter"
    module = LlamaForCausalLM.from_pretrained(whole)
    peft = get_peft_model(module, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    peft.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def _load(kind: str, folder: Path) -> None:
    source = StageInput("the model", "policy", str(folder))
    if kind == "reward":
        load_reward_model(source)
    else:
        load_policy(source)
    load_tokenizer(source)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name.replace(" ", "-"))
def test_a_broken_folder_is_named_in_one_line(
    case: Hostile, whole: Path, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(adapter if case.kind == "adapter" else whole, folder)
    case.change(folder)
    began_s = time.process_time()  # of this process: other work on the machine does not count
    with pytest.raises(PosttrainError) as caught:
        _load(case.kind, folder)
    assert time.process_time() - began_s < LIMIT_S
    line = str(caught.value)
    assert case.says in line
    assert "\n" not in line
    assert caught.value.exit_code == case.exit_code, line
