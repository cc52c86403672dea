"""How many positions a new model has: what the recipe says, by upstream's names, else its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoConfig

from eval.model import positions_of
from pipeline.config.trainer_fields import positions_field
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError
from pipeline.recipe.load import load
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages.pretrain import PretrainConfig

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "llama": "max_position_embeddings",
    "opt": "max_position_embeddings",
    "falcon": "max_position_embeddings",
    "gpt2": "n_positions",
    "gptj": "n_positions",
    "openai-gpt": "n_positions",
    "gpt_bigcode": "n_positions",
    "ctrl": "n_positions",
    "mpt": "max_seq_len",
    "rwkv": "context_length",
}


def pretraining(architecture: str, **fields: Any) -> PretrainConfig:
    model = {"architecture": architecture, "tokenizer": "$t", "hidden_size": 32, **fields}
    return PretrainConfig.model_validate(
        {
            "stage": "pretrain",
            "model": model,
            "data": {"task": "arithmetic"},
            "tokens": 20_000,
            "sequence_length": 64,
            "batch_size": 8,
        }
    )


@pytest.mark.parametrize(("architecture", "name"), NAMES.items())
def test_the_field_is_the_one_that_upstream_reads(architecture: str, name: str) -> None:
    assert positions_field(architecture) == name
    assert positions_of(AutoConfig.for_model(architecture, **{name: 77})) == 77


@pytest.mark.parametrize("architecture", ["bloom", "mamba", "mamba2"])
def test_some_architectures_have_no_positions_to_run_out_of(architecture: str) -> None:
    assert positions_field(architecture) is None
    assert positions_of(AutoConfig.for_model(architecture)) is None
    config = pretraining(architecture)
    assert (config.max_positions, config.defaults) == (None, {})


@pytest.mark.parametrize(("architecture", "name"), NAMES.items())
def test_a_new_model_has_as_many_as_a_row_has_tokens(architecture: str, name: str) -> None:
    config = pretraining(architecture)
    assert config.max_positions == 64
    assert config.defaults == {name: 64}


@pytest.mark.parametrize(
    ("architecture", "name"), [*NAMES.items(), ("gpt2", "max_position_embeddings")]
)
def test_what_the_recipe_says_holds_under_either_name(architecture: str, name: str) -> None:
    config = pretraining(architecture, **{name: 65})
    assert config.max_positions == 65
    assert config.defaults == {}


def test_one_field_is_not_given_under_two_names() -> None:
    with pytest.raises(ValueError, match="are one field; write one of them"):
        pretraining("gpt2", n_positions=65, max_position_embeddings=66)


@pytest.mark.parametrize(("architecture", "name"), [*NAMES.items(), ("bloom", None)])
def test_plan_reads_how_many_a_folder_says(
    architecture: str, name: str | None, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {} if name is None else {name: 77}
    AutoConfig.for_model(architecture, **fields).save_pretrained(tmp_path / "model")
    path = tmp_path / "mine.yaml"
    text = """
name: mine
stages:
  sft: {stage: sft, model: ./model, data: {task: arithmetic}}
  again: {stage: sft, model: $sft, data: {task: arithmetic}}
"""
    path.write_text(text)
    recipe = load(path)
    length = None if name is None else 77
    for stage in recipe.stages.values():
        assert isinstance(stage, TrainingStage)
        assert trainer_arguments(recipe, stage)["max_length"] == length
    if name is not None:
        given = "model: ./model, training_args: {max_length: 78}"
        path.write_text(text.replace("model: ./model", given))
        with pytest.raises(PosttrainError, match=r"78 is beyond the 77 positions of `./model`"):
            load(path)
