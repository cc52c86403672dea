"""How many GPUs each stage of a recipe takes, where some run side by side; `plan` says it."""

from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.errors import PosttrainError
from pipeline.plan.room import check_processes
from pipeline.recipe.devices import num_devices
from tests.command import Command
from tests.conftest import TINY
from tests.recipes.launched import write

LAUNCHED = (
    "batch_size: 8\n    launch: {with: accelerate, processes: 2}\n"
    "    training_args: {learning_rate: 1e-3"
)
STAGES = """\
  answers: {stage: evaluate, model: $sft, tasks: [arithmetic]}
  before: {stage: evaluate, model: $base, tasks: [arithmetic]}
  of_results: {stage: compare, baseline: $answers, candidates: [$before]}
  of_models: {stage: compare, baseline: $base, candidates: [$answers], tasks: [arithmetic]}
  sampled: {stage: generate, model: $sft, prompts: {task: arithmetic}}
  verified: {stage: label, data: $sampled, reward: {verify: arithmetic}}
  scored: {stage: label, data: $sampled, reward: {model: $rm}}
  rm: {stage: reward_model, model: $sft, data: {task: arithmetic}}
  merged: {stage: merge, model: $sft}
  served:
    stage: grpo
    model: $sft
    prompts: {task: arithmetic}
    reward: {verify: arithmetic}
    rollout:
      engine: vllm
      python: python
      server_args: {tensor-parallel-size: 4, data-parallel-size: 2}
  own_gpus:
    stage: sft
    model: $base
    data: [{task: arithmetic}]
    launch: {with: accelerate, config: acc.yaml}
"""
TAKEN = {
    **dict.fromkeys(("tokenizer", "of_results", "verified", "merged", "own_gpus"), 0),
    **dict.fromkeys(("base", "answers", "before", "of_models", "sampled", "scored", "rm"), 1),
    "sft": 2,
    "served": 8,
}


def write_recipe(folder: Path) -> None:
    launched = TINY.replace("batch_size: 8\n    training_args: {learning_rate: 1e-3", LAUNCHED)
    (folder / "tiny.yaml").write_text(launched.replace("seed: 3", "seed: 3\njobs: 3") + STAGES)
    (folder / "acc.yaml").write_text("num_processes: 2\ngpu_ids: 0,1\n")
    (folder / "python").touch(mode=0o755)


def test_what_computes_takes_one_for_each_process_and_what_reads_files_none(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    recipe = load_recipe(tmp_path / "tiny.yaml")
    assert {name: num_devices(recipe, name) for name in recipe.stages} == TAKEN


def test_plan_says_how_the_gpus_are_divided_and_nothing_without_any(
    posttrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.report.terminal.plan.visible_gpus", lambda _: [])
    assert "jobs:" not in posttrain("plan", "tiny.yaml").out
    monkeypatch.setattr("pipeline.report.terminal.plan.visible_gpus", lambda _: ["0", "3"])
    said = " ".join(posttrain("plan", "tiny.yaml").out.split())
    assert "jobs: 3 side by side, 2 GPUs: 8 for served; 2 for sft; 1 for base, " in said
    assert "none for tokenizer, " in said


def test_a_part_of_a_gpu_is_for_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "launch: {with: accelerate, processes: 2}")
    monkeypatch.setattr("pipeline.plan.room.visible_gpus", lambda _: ["MIG-1f", "MIG-2e"])
    with pytest.raises(PosttrainError, match=r"a part of a GPU \(MIG\) is for one"):
        check_processes(load_recipe(tmp_path / "recipe.yaml"))
