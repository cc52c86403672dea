"""What `plan` says of a stage's size, against models that transformers and PEFT build."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from pipeline.config.blocks import LoraBlock
from pipeline.config.new_model import SIZES, NewModelBlock
from pipeline.plan.disk_space import disk_space
from pipeline.plan.estimate import Estimate, estimates
from pipeline.plan.plan import make
from pipeline.plan.sizes import lora_parameters, parameters_in, shape_of
from pipeline.recipe.load import load
from pipeline.store.store import Store
from tests.command import Command, command

CHAIN = Path(__file__).with_name("two_tasks.yaml")
REAL = Path(__file__).parents[3] / "recipes" / "real_stories.yaml"
TINY = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "tie_word_embeddings": False,
}


def _estimates(recipe: Path, runs: Path, *overrides: str) -> dict[str, Estimate]:
    return estimates(make(load(recipe, overrides=overrides), Store(runs)))


def _built(architecture: str, fields: dict[str, Any]) -> PreTrainedModel:
    config = AutoConfig.for_model(architecture, **fields)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", ["1M", "5M"])
def test_a_new_model_has_the_parameters_that_transformers_builds(tmp_path: Path, size: str) -> None:
    found = _estimates(CHAIN, tmp_path, f"stages.base.model.size={size}")
    heads = SIZES[size]["num_attention_heads"]
    inner = {"1M": 336, "5M": 672}[size]
    fields = {**SIZES[size], "num_key_value_heads": heads, "intermediate_size": inner}
    expected = _count(_built("llama", {**fields, "vocab_size": 1024, "tie_word_embeddings": True}))
    for name in ("base", "sft", "dpo"):
        assert found[name].parameters == found[name].trained_parameters == expected
        assert not found[name].is_about
    head = SIZES[size]["hidden_size"]
    assert found["preference"].parameters == expected + head
    assert set(found) == {"base", "sft", "preference", "dpo"}


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "gpt2", "gpt_neox", "olmo2"])
def test_another_architecture_is_about_right(tmp_path: Path, architecture: str) -> None:
    override = (
        f"stages.base.model={{architecture: {architecture}, tokenizer: $tokenizer, size: 5M}}"
    )
    found = _estimates(CHAIN, tmp_path, override)["base"]
    block = NewModelBlock(architecture=architecture, tokenizer="$tokenizer", size="5M")
    true = _count(_built(architecture, {**block.fields(), "vocab_size": 1024}))
    assert found.is_about
    assert found.parameters == pytest.approx(true, rel=0.3)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        {"target_modules": r"model\.layers\.[01]\..*(up|down)_proj"},
        {"r": 2, "target_modules": ["o_proj", "lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
    ],
    ids=str,
)
def test_an_adapter_has_the_parameters_that_peft_trains(given: dict[str, Any]) -> None:
    block = LoraBlock.model_validate(given)
    shape = shape_of(TINY)
    assert shape is not None
    module = _built("llama", TINY)
    assert shape.parameters() == _count(module)
    trained, _ = get_peft_model(module, LoraConfig(**block.fields())).get_nb_trainable_parameters()
    assert lora_parameters(shape, block) == trained


def test_targets_that_a_llama_does_not_have_are_not_guessed() -> None:
    shape = shape_of(TINY)
    assert shape is not None
    assert lora_parameters(shape, LoraBlock(target_modules=["c_attn"])) is None
    assert lora_parameters(shape, LoraBlock(target_modules="*[")) is None


def test_an_adapter_trains_less_and_needs_less_memory(tmp_path: Path) -> None:
    whole = _estimates(CHAIN, tmp_path)["sft"]
    lora = _estimates(CHAIN, tmp_path, "stages.sft.lora={r: 8}")["sft"]
    assert lora.parameters == whole.parameters
    assert lora.trained_parameters
    assert whole.memory_bytes
    assert lora.memory_bytes
    spared = (whole.parameters or 0) - lora.trained_parameters
    # A gradient and two moments less for each weight; the adapter's own weights are more.
    assert whole.memory_bytes - lora.memory_bytes == 12 * spared - 4 * lora.trained_parameters


def test_a_finished_stage_is_counted_as_it_is_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    planned = make(load(CHAIN), store).stage("base")
    working = store.working(planned.kind, planned.fingerprint)
    working.start_over()
    module = _built("llama", TINY)
    module.save_pretrained(working.out)
    record = {
        **{"name": "base", "kind": planned.kind, "produces": "policy", "inputs": {}},
        **{"fingerprint": planned.fingerprint, "identity": dict(planned.identity)},
        **{"properties": {}, "metrics": {}, "provenance": {}},
    }
    store.publish(working, record=record)
    assert _estimates(CHAIN, tmp_path)["sft"].parameters == _count(module)


def test_an_adapters_folder_counts_as_the_model_below_it(tmp_path: Path) -> None:
    module = _built("llama", TINY)
    module.save_pretrained(tmp_path / "base")
    adapter = get_peft_model(module, LoraConfig(r=2, target_modules="all-linear"))
    adapter.peft_config["default"].base_model_name_or_path = "../base"
    adapter.save_pretrained(tmp_path / "adapter")
    module = adapter.unload()
    override = f"stages.sft.model={tmp_path / 'adapter'}"
    assert _estimates(CHAIN, tmp_path, override)["sft"].parameters == _count(module)


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_reward_model_has_a_head_of_one_output(tiny_recipe: Path, is_tied: bool) -> None:
    with tiny_recipe.open("a") as stream:
        stream.write("  rm: {stage: reward_model, model: $base, data: {hub: a/b}, lora: {r: 4}}\n")
    override = f"stages.base.model.tie_word_embeddings={str(is_tied).lower()}"
    found = _estimates(tiny_recipe, tiny_recipe.parent, override)["rm"]
    block = NewModelBlock.model_validate(
        {"architecture": "llama", "tokenizer": "$t", "hidden_size": 32, "num_hidden_layers": 2}
    )
    config = AutoConfig.for_model(
        "llama", **block.fields(), vocab_size=300, num_labels=1, pad_token_id=0
    )
    module = AutoModelForSequenceClassification.from_config(config)
    assert found.parameters == _count(module)
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS")
    trained, _ = get_peft_model(module, adapter).get_nb_trainable_parameters()
    assert found.trained_parameters == trained


def test_a_real_models_parameters_are_read_from_its_header(real_data: Path, tmp_path: Path) -> None:
    assert parameters_in(real_data / "stories260K") == 260_032
    recipe = load(REAL, roots={"real": real_data})
    found = estimates(make(recipe, Store(tmp_path)))["more_stories"]
    assert (found.parameters, found.trained_parameters) == (260_032, 260_032)
    assert found.tokens == 400_000


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 40, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"{"],
)
def test_a_broken_file_tells_nothing(tmp_path: Path, content: bytes) -> None:
    assert parameters_in(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(content)
    assert parameters_in(tmp_path) is None


def test_a_mixture_of_experts_has_no_shape() -> None:
    assert shape_of({**TINY, "num_local_experts": 8}) is None


@pytest.mark.parametrize(
    ("overrides", "stage", "expected"),
    [
        ((), "base", 1_200_000),
        (("stages.base.training_args.num_train_epochs=2",), "base", 2_400_000),
        (("stages.base.training_args.max_steps=10",), "base", 10 * 8 * 128),
        ((), "sft", 5 * (100 + 2000) * 1024),
        (("stages.sft.training_args.max_length=64",), "sft", 5 * (100 + 2000) * 64),
        (("stages.sft.training_args.max_steps=10",), "sft", 10 * 16 * 1024),
        (("stages.sft.data={hub: owner/name}",), "sft", None),
        (("stages.sft.data={hub: owner/name, rows: 50}",), "sft", 5 * 50 * 1024),
    ],
)
def test_tokens_follow_from_the_recipe_where_it_says_enough(
    tmp_path: Path, overrides: tuple[str, ...], stage: str, expected: int | None
) -> None:
    found = _estimates(CHAIN, tmp_path, *overrides)[stage]
    assert found.tokens == expected
    assert found.is_upper_bound == (stage == "sft")


@pytest.mark.parametrize("size", ["1M", "5M"])
def test_memory_is_that_of_a_real_forward_pass_and_of_gradients_on_their_way(
    tmp_path: Path, size: str
) -> None:
    overrides = (f"stages.base.model.size={size}", "stages.base.sequence_length=64")
    found = _estimates(CHAIN, tmp_path, *overrides)["base"]
    block = NewModelBlock(architecture="llama", tokenizer="$tokenizer", size=size)
    module = _built("llama", {**block.fields(), "vocab_size": 1024})
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ids = torch.zeros(8, 64, dtype=torch.long)
        loss = module(input_ids=ids, labels=ids, use_cache=False).loss
    assert loss.requires_grad  # the graph, and so all that it keeps, is still there
    assert found.parameters
    assert found.memory_bytes
    assert 1.2 < (found.memory_bytes - 16 * found.parameters) / sum(kept.values()) < 2.0


def test_execution_settings_change_the_memory_and_nothing_else(tmp_path: Path) -> None:
    plain = _estimates(CHAIN, tmp_path)["base"]
    for setting in ("per_device_train_batch_size=2", "gradient_checkpointing=true"):
        found = _estimates(CHAIN, tmp_path, f"stages.base.training_args.{setting}")["base"]
        assert replace(found, memory_bytes=0) == replace(plain, memory_bytes=0)
        assert (found.memory_bytes or 0) < (plain.memory_bytes or 0)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "200")
    return command(monkeypatch, capsys)


def test_plan_shows_it_in_a_table(call: Command, tmp_path: Path) -> None:
    said = call("plan", str(CHAIN), "--runs", str(tmp_path), "--set", "stages.sft.lora={r: 8}")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    head = lines.index("training parameters trained tokens memory")
    assert lines[head + 1] == "base 910k all 1.2M 98 MB"
    assert lines[head + 2] == "sft 910k 77.3k <= 10.8M <= 1.3 GB"
    assert "beside 0.6 GB for libraries; <=: if every row has 1,024 tokens" in said.out


def test_a_model_on_the_hub_is_known_later(call: Command, tmp_path: Path) -> None:
    said = call(*("plan", str(CHAIN), "--runs", str(tmp_path)), *("--set", "stages.sft.model=a/b"))
    assert re.search(r"^sft +\? +\? +<= 10\.8M +\?$", said.out, re.MULTILINE)
    assert "?: known once model and data are there" in said.out


def test_encoded_rows_are_part_of_what_the_disk_must_hold(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "one two", "completion": " three" * 40}) + "\n"
    (tmp_path / "rows.jsonl").write_text(row * 1_000)
    asked = "stage: grpo, model: $sft, prompts: {task: facts}, reward: {model: $preference}"
    (tmp_path / "recipe.yaml").write_text(f"{CHAIN.read_text()}\n  asked: {{{asked}}}\n")

    def needed(written: str, stage: str = "sft", key: str = "data") -> int:
        data = [f"stages.{stage}.{key}=[{{{written}}}]"]
        plan = make(load(tmp_path / "recipe.yaml", overrides=data), Store(tmp_path))
        return disk_space(plan, [stage]).needed_bytes

    nothing = needed("task: facts")
    assert needed("file: rows.jsonl") == nothing + 2 * 1_000 * len(row)
    assert needed("file: rows.jsonl, rows: 250") == nothing + 2 * 250 * len(row)
    assert needed("file: rows.jsonl, rows: 5000") == nothing + 2 * 1_000 * len(row)
    prompts = needed("file: rows.jsonl", "asked", "prompts")
    assert prompts == needed("task: facts", "asked", "prompts") + 2 * 1_000 * len(row)


def test_the_disk_is_said_to_be_too_small_before_anything_runs(tmp_path: Path) -> None:
    one = disk_space(make(load(CHAIN), Store(tmp_path)))
    assert one.warning() is None
    # Five trainings of one size leave five results; the last one's checkpoints lie beside them.
    parameters = _estimates(CHAIN, tmp_path)["base"].parameters
    assert parameters is not None
    trainings = len(_estimates(CHAIN, tmp_path))
    expected = 4 * parameters * trainings + 3 * 12 * parameters + 4 * 1_200_000  # ids of the base
    assert one.needed_bytes == pytest.approx(expected, rel=0.02)
    huge = "stages.base.model={architecture: llama, tokenizer: $tokenizer, hidden_size: 16384, "
    huge += "num_hidden_layers: 120, num_attention_heads: 128, max_position_embeddings: 1024}"
    plan = make(load(CHAIN, overrides=[huge]), Store(tmp_path))
    warning = disk_space(plan).warning()
    assert warning is not None
    assert re.fullmatch(
        r"what is to run needs up to about [\d,.]+ GB in .*, where .* free", warning
    )
    assert disk_space(plan, ["tokenizer"]).warning() is None
