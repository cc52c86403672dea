"""What was saved is held against the model: no stage publishes weights that are not there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.errors import CorruptArtifactError
from pipeline.models import save
from tests.small_folders import small_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def small_llama(*, is_tied: bool = True) -> LlamaForCausalLM:
    config = LlamaConfig(vocab_size=300, num_hidden_layers=1, tie_word_embeddings=is_tied, **SIZES)
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_whole_model_is_published(tmp_path: Path, is_tied: bool) -> None:
    module = small_llama(is_tied=is_tied)
    size = save.save_policy(module, small_tokenizer(), tmp_path)
    there = sum(tensor.numel() for tensor in load_file(tmp_path / "model.safetensors").values())
    assert size == {"parameters": there}


def test_a_model_whose_weights_another_process_has_is_not_published(tmp_path: Path) -> None:
    module = small_llama()
    for parameter in module.parameters():  # what ZeRO-3 leaves of them
        parameter.data = torch.empty(0)
    with pytest.raises(CorruptArtifactError, match="are empty of a model of 0; nothing was"):
        save.save_policy(module, small_tokenizer(), tmp_path)


def test_a_model_of_which_a_part_was_saved_is_not_published(tmp_path: Path) -> None:
    module = small_llama()
    save.save_policy(module, small_tokenizer(), tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    number = sum(tensor.numel() for tensor in weights.values())
    save.check_saved(tmp_path, number)
    weights.pop("model.norm.weight")
    save_file(weights, path)
    with pytest.raises(CorruptArtifactError, match=f"{number - 16:,} weights were saved of a "):
        save.check_saved(tmp_path, number)
    weights["model.norm.weight"] = torch.empty(0)
    save_file(weights, path)
    with pytest.raises(CorruptArtifactError, match=r"`model.norm.weight` and 0 more tensors are"):
        save.check_saved(tmp_path, 1)
