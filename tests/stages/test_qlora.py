"""Adapters on weights of 4 bits (QLoRA), on a CPU: trained, resumed, merged, exported.

Skipped where bitsandbytes is not installed: `make prove-qlora` has an environment with it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoModelForCausalLM

from tests.command import Command
from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.kills import kill_and_compare
from tests.trained import Trained

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: `make prove-qlora`")

LORA = "batch_size: 8, lora: {r: 4, load_in_4bit: true}"
RECIPE = (
    TINY
    + f"""\
  tuned: {{stage: sft, model: $base, data: {{task: arithmetic, rows: 80}}, {LORA},
    training_args: {{learning_rate: 1e-2, logging_steps: 1, num_train_epochs: 2}}}}
  preferred: {{stage: dpo, model: $sft, data: {{task: arithmetic, rows: 40}}, {LORA},
    eval_data: {{task: arithmetic, split: validation, rows: 20}},
    training_args: {{learning_rate: 1e-3, logging_steps: 1}}}}
  merged: {{stage: merge, model: $tuned}}
"""
)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The recipe, run once; seen.jsonl has the layers that gave something in training."""
    warm()
    folder = tmp_path_factory.mktemp("qlora")
    recipe, seen = folder / "tiny.yaml", folder / "seen.jsonl"
    recipe.write_text(RECIPE)
    names: set[str] = set()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        name = type(module).__name__
        if "Linear" in name and torch.is_grad_enabled() and name not in names:
            names.add(name)
            with seen.open("a") as file:
                file.write(json.dumps(name) + "\n")

    hook = register_module_forward_hook(note)
    try:
        for stage in ("base", "sft"):
            before = run_forked(recipe, folder / "runs", until=stage)
            assert before.code == 0, before.output
        seen.unlink()
        ended = run_forked(recipe, folder / "runs")
    finally:
        hook.remove()
    assert ended.code == 0, ended.output
    return Trained(recipe, folder / "runs")


def lines_of(quantised: Trained, stage: str) -> list[dict[str, float]]:
    path = quantised.runs / "tiny" / stage / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_frozen_weights_are_in_4_bits_and_adapters_learn_on_them(quantised: Trained) -> None:
    layers = (quantised.recipe.parent / "seen.jsonl").read_text()
    assert "Linear4bit" in layers
    losses = [line["loss"] for line in lines_of(quantised, "tuned") if "loss" in line]
    assert sum(losses[-5:]) < sum(losses[:5])
    for name, tensor in load_file(quantised.runs / "tiny/tuned/adapter_model.safetensors").items():
        assert tensor.any(), f"no gradient reached {name}"
        # What was trained in bf16 has nothing in its last 16 bits.
        assert not torch.equal(tensor, tensor.bfloat16().float()), name


def test_dpo_begins_at_its_reference_exactly_and_learns(quantised: Trained) -> None:
    record = json.loads((quantised.runs / "tiny/preferred/artifact.json").read_text())
    assert record["metrics"]["initial_kl"] == 0.0
    losses = [line["loss"] for line in lines_of(quantised, "preferred") if "loss" in line]
    assert losses[-1] < losses[0]


def logits(module: Any) -> torch.Tensor:
    with torch.no_grad():
        return module.eval()(input_ids=torch.arange(3, 33).view(2, 15)).logits


def test_what_is_merged_and_exported_is_the_whole_base_with_the_adapter(
    quantised: Trained, tmp_path: Path, posttrain: Command
) -> None:
    """Not the weights of 4 bits, which are in no artifact."""
    base, tuned, merged = (quantised.runs / "tiny" / name for name in ("base", "tuned", "merged"))
    adapted: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tuned))
    expected = logits(adapted)
    assert not torch.allclose(expected, logits(AutoModelForCausalLM.from_pretrained(base)))
    exported = tmp_path / "out"
    runs = ("--runs", str(quantised.runs))
    said = posttrain("export", str(quantised.recipe), "tuned", str(exported), "--merged", *runs)
    assert said.code == 0, said.err
    for folder in (merged, exported):
        assert "quantization_config" not in (folder / "config.json").read_text()
        found = logits(AutoModelForCausalLM.from_pretrained(folder))
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("stage", ["tuned", "preferred"])
def test_a_killed_stage_ends_in_the_same_bytes(
    quantised: Trained, tmp_path: Path, stage: str
) -> None:
    overrides = [f"stages.{stage}.training_args.save_steps=1"]
    tally = kill_and_compare(quantised, tmp_path, stage, kills=1, seed=5, overrides=overrides)
    assert tally.resumed == 1, tally.said
    assert tally.differ == 0, tally.said
