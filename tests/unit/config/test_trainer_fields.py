"""What is read from upstream's source is what upstream's classes have; reading imports nothing."""

import ast
import contextlib
import dataclasses
import subprocess
import sys

import pytest

from pipeline.config.trainer_fields import architecture_fields, architectures, fields


def config_class(name: str) -> type:
    import peft
    import transformers
    import trl

    from pipeline.rl.config.distill import DistillConfig
    from pipeline.rl.config.grpo import GRPOConfig
    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.config.rloo import RLOOConfig

    ours = {each.__name__: each for each in (PPOConfig, GRPOConfig, RLOOConfig, DistillConfig)}
    if name in ours:
        return ours[name]
    places = {"TrainingArguments": transformers, "LoraConfig": peft}
    return getattr(places.get(name, trl), name)


@pytest.mark.parametrize(
    "name",
    [
        "TrainingArguments",
        "SFTConfig",
        "DPOConfig",
        "RewardConfig",
        "GRPOConfig",
        "RLOOConfig",
        "DistillConfig",
        "KTOConfig",
        "LoraConfig",
        "PPOConfig",
    ],
)
def test_fields_are_those_of_the_real_dataclass(name):
    real = [field for field in dataclasses.fields(config_class(name)) if field.init]
    found = fields(name)
    assert list(found) == [field.name for field in real]
    for field in real:
        if isinstance(field.type, str):
            assert found[field.name].annotation == field.type.strip("'")
        with contextlib.suppress(ValueError):  # a default that upstream computes
            default = ast.literal_eval(found[field.name].default or "Ellipsis")
            assert default == field.default


def test_a_field_is_as_the_class_that_overrides_it_says():
    assert (fields("TrainingArguments")["bf16"].default, fields("SFTConfig")["bf16"].default) == (
        "False",
        "None",
    )
    assert fields("SFTConfig")["learning_rate"].annotation == "float"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SFTConfg", "did you mean `SFTConfig`"),
        ("", "SFTConfig"),
        ("../sft", "SFTConfig"),
        ("SFTTrainer", ""),
        ("OrderedDict", ""),
    ],
)
def test_a_class_that_upstream_does_not_have_is_a_value_error(name, hint):
    with pytest.raises(ValueError, match=f"no config class `{name}`") as caught:
        fields(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "architecture",
    ["llama", "gpt2", "gpt_neox", "qwen3", "mistral", "gemma3_text", "phi3", "mamba"],
)
def test_an_architecture_takes_every_field_of_its_config_class(architecture):
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture)
    names = {field.name for field in dataclasses.fields(config) if not field.name.startswith("_")}
    assert names | set(config.attribute_map) <= architecture_fields(architecture)


def test_names_that_a_config_would_take_and_ignore_are_not_its_fields():
    assert not {"hidden_sise", "model_type", "_attn_implementation"} & architecture_fields("llama")
    assert "n_embd" not in architecture_fields("llama")


def test_older_and_common_names_take_effect_where_they_are_fields():
    from transformers import GPT2Config, LlamaConfig

    assert {"hidden_size", "num_labels"} <= architecture_fields("gpt2")
    assert GPT2Config(hidden_size=64).n_embd == 64
    assert "rope_theta" in architecture_fields("llama")
    assert LlamaConfig(rope_theta=5.0).rope_parameters["rope_theta"] == 5.0
    assert "rope_theta" not in architecture_fields("gpt2")


def test_every_architecture_with_a_causal_model_has_fields():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert architectures() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    without = [name for name in architectures() if "vocab_size" not in architecture_fields(name)]
    assert len(without) < len(architectures()) / 4


@pytest.mark.parametrize("name", ["lama", "", "..", "../auto", "auto"])
def test_an_unknown_architecture_is_a_value_error(name):
    with pytest.raises(ValueError, match="has no architecture"):
        architecture_fields(name)


def test_reading_recipes_and_upstream_fields_imports_nothing_heavy():
    program = """
import importlib, pkgutil, sys
import pipeline.recipe
for module in pkgutil.iter_modules(pipeline.recipe.__path__):
    importlib.import_module(f"pipeline.recipe.{module.name}")
from pipeline.config.trainer_fields import architecture_fields, architectures, fields
for name in ("SFTConfig", "DPOConfig", "RewardConfig", "GRPOConfig", "LoraConfig"):
    fields(name)
architecture_fields("llama")
architectures()
heavy = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "numpy"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
