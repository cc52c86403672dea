"""Every stage that trains in bf16 computes in it, on frozen weights that are kept in it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from tests.conftest import TINY
from tests.forked import run_forked, warm

LORA = "precision: bf16, batch_size: 4, lora: {r: 4}"
DATA = (
    "data: [{task: arithmetic, rows: 16}],"
    " eval_data: [{task: arithmetic, split: validation, rows: 16}]"
)
STEPS = "max_steps: 2, logging_steps: 1, learning_rate: 1e-2"
RECIPE = (
    TINY.replace("batch_size: 8", "batch_size: 8\n    precision: bf16").replace("20k", "4k")
    + f"""\
  base_lora: {{stage: pretrain, model: $base, data: [{{task: arithmetic}}], tokens: 1k,
    sequence_length: 64, {LORA}, training_args: {{{STEPS}}}}}
  sft_lora: {{stage: sft, model: $base, {DATA}, {LORA}, training_args: {{{STEPS}}}}}
  rm_lora: {{stage: reward_model, model: $sft_lora, {DATA}, {LORA}, training_args: {{{STEPS}}}}}
  dpo_lora: {{stage: dpo, model: $sft_lora, {DATA}, {LORA}, training_args: {{{STEPS}}}}}
  ppo_lora: {{stage: ppo, model: $dpo_lora, prompts: [{{task: arithmetic, rows: 16}}], {LORA},
    reward: {{model: $rm_lora}}, reward_gate: "off", best_of: 2, training_args: {{max_steps: 4,
    num_ppo_epochs: 2, max_completion_length: 4, learning_rate: 1e-2}}}}
  dpo: {{stage: dpo, model: $sft, {DATA}, precision: bf16, batch_size: 4,
    training_args: {{{STEPS}}}}}
"""
)
ADAPTED = ("base_lora", "sft_lora", "rm_lora", "dpo_lora", "ppo_lora")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages in bf16, run once; seen.jsonl has what their projections gave in training."""
    warm()
    folder = tmp_path_factory.mktemp("bf16")
    recipe, seen = folder / "tiny.yaml", folder / "seen.jsonl"
    recipe.write_text(RECIPE)
    written: set[tuple[Any, ...]] = set()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(module, nn.Linear) or not torch.is_grad_enabled():
            return
        kept = str(module.weight.dtype) if not module.weight.requires_grad else "trained"
        found = (type(module).__name__, kept, str(output.dtype))
        if found not in written:
            written.add(found)
            with seen.open("a") as file:
                file.write(json.dumps(found) + "\n")

    hook = register_module_forward_hook(note)
    try:
        ended = run_forked(recipe, folder / "runs")
    finally:
        hook.remove()
    assert ended.code == 0, ended.output
    return folder


def first_line(runs: Path, stage: str) -> dict[str, float]:
    path = runs / "runs" / "tiny" / stage / "metrics.jsonl"
    return json.loads(path.read_text().splitlines()[0])


def test_every_projection_in_training_is_in_bf16(runs: Path) -> None:
    """And none is of a frozen weight in fp32, which would be cast in every pass."""
    found = [json.loads(line) for line in (runs / "seen.jsonl").read_text().splitlines()]
    assert {output for _, _, output in found} == {"torch.bfloat16"}
    assert {kept for _, kept, _ in found} == {"trained", "torch.bfloat16"}
    assert {name for name, kept, _ in found if kept != "trained"} == {"FrozenLinear"}


@pytest.mark.parametrize("stage", ADAPTED)
def test_adapters_are_trained_and_saved_in_fp32(runs: Path, stage: str) -> None:
    tensors = load_file(runs / "runs" / "tiny" / stage / "adapter_model.safetensors")
    assert {each.dtype for each in tensors.values()} == {torch.float32}
    # What only was rounded to bf16 once has nothing in its last 16 bits.
    assert any(not torch.equal(each, each.bfloat16().float()) for each in tensors.values())


def test_dpo_on_an_adapter_begins_at_its_reference_exactly(runs: Path) -> None:
    """The earlier adapter is part of both, beside weights that are kept in bf16."""
    record = json.loads((runs / "runs" / "tiny" / "dpo_lora" / "artifact.json").read_text())
    assert record["metrics"]["initial_kl"] == 0.0
    first = first_line(runs, "dpo_lora")
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0.0


def test_ppo_on_an_adapter_begins_at_its_reference_exactly(runs: Path) -> None:
    first = first_line(runs, "ppo_lora")
    assert first["objective/kl"] == 0.0
    assert first["policy/ratio_first"] <= 1 + 2**-6
    assert first["rollout/logp_gap"] <= 2**-4


def test_a_whole_model_that_was_trained_in_bf16_is_saved_in_fp32(runs: Path) -> None:
    for stage in ("base", "sft", "dpo"):
        tensors = load_file(runs / "runs" / "tiny" / stage / "model.safetensors")
        assert {each.dtype for each in tensors.values()} == {torch.float32}
