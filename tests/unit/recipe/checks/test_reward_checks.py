"""A reward model of an architecture without a scalar head is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import load_recipe
from pipeline.errors import PosttrainError

TASK = {"task": "arithmetic"}


def recipe(folder: Path, stages: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"name": "mine", "stages": stages}))
    return path


def chain(architecture: str) -> dict[str, Any]:
    new = {"architecture": architecture, "tokenizer": "$tokenizer"}
    return {
        "tokenizer": {"stage": "tokenizer", "data": TASK},
        "base": {"stage": "pretrain", "model": new, "data": TASK, "tokens": "20k"},
        "sft": {"stage": "sft", "model": "$base", "data": TASK},
        "preference": {"stage": "reward_model", "model": "$sft", "data": TASK},
    }


@pytest.mark.parametrize("architecture", ["mamba", "cohere", "granite", "lfm2"])
def test_a_chain_from_an_architecture_without_a_scalar_head_has_no_reward_model(
    architecture, tmp_path
):
    with pytest.raises(PosttrainError, match=f"{architecture} has no form with a scalar head"):
        load_recipe(recipe(tmp_path, chain(architecture)))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "mpt", "qwen3_next"])
def test_other_architectures_have_one(architecture, tmp_path):
    assert "preference" in load_recipe(recipe(tmp_path, chain(architecture))).stages


def test_a_folder_and_an_adapter_on_it_are_looked_into(tmp_path):
    for name, file, content in (
        ("base", "config.json", {"model_type": "mamba"}),
        ("adapter", "adapter_config.json", {"base_model_name_or_path": "../base"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    for name in ("base", "adapter"):
        stages = {"preference": {"stage": "reward_model", "model": f"./{name}", "data": TASK}}
        with pytest.raises(PosttrainError, match="mamba has no form with a scalar head"):
            load_recipe(recipe(tmp_path, stages))
