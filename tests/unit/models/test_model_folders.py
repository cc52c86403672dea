"""Model folders as users have them: whatever is wrong is said in one line, and said soon."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.model_files.folder import check_folder
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.models.reward import load_reward_model
from tests import broken_folders as broken
from tests.hostile_folders import HOSTILE, NEED_LIBRARIES
from tests.small_folders import small_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize(
    "case",
    [case for case in HOSTILE if case.name not in NEED_LIBRARIES],
    ids=lambda case: case.name.replace(" ", "-"),
)
def test_what_bytes_tell_is_found_without_loading(
    case: Hostile, whole: Path, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(adapter if case.kind == "adapter" else whole, folder)
    case.change(folder)
    with pytest.raises(PosttrainError) as caught:
        check_folder(folder)
    assert case.says in str(caught.value)
    assert caught.value.exit_code == case.exit_code


def test_whole_folders_pass(whole: Path, adapter: Path) -> None:
    for folder in (whole, adapter):
        check_folder(folder)
        _load("policy", folder)


@pytest.mark.parametrize(
    "change",
    [
        broken.raw("pytorch_model.bin", b"evil"),
        broken.text("extra.safetensors", broken.POINTER),
        broken.text("generation_config.json", '{"temperature": "hot"}'),
        broken.sharded(),
        broken.config(auto_map={}),
        broken.config(num_labels=7, unheard_of=[1, {"a": None}]),
        broken.edit("tokenizer_config.json", chat_template=None),
    ],
    ids=["a-pickle-beside", "other-weights", "settings", "shards", "no-map", "more", "template"],
)
def test_what_does_not_matter_passes(
    change: Callable[[Path], object], whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(whole, folder)
    change(folder)
    check_folder(folder)
    _load("policy", folder)


def test_weights_may_be_links_as_in_the_hubs_cache(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).symlink_to(path)
    check_folder(folder)
    _load("policy", folder)


@pytest.mark.parametrize("weights", ["safetensors", "a pickle"])
def test_of_a_hub_model_only_safetensors_are_loaded(
    weights: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub/models--org--model"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(whole, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("a" * 40)
    if weights == "a pickle":
        broken.pickled(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = StageInput("org/model", "policy", "org/model", revision="a" * 40)
    if weights == "safetensors":
        assert load_policy(source).num_parameters()
        return
    with pytest.raises(PosttrainError, match="safetensors"):
        load_policy(source)
