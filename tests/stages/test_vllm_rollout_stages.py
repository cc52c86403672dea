"""Stages whose rollouts a vLLM server samples: a stand-in that the stage starts and ends."""

import json
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.ppo_tasks import tiny_llama, tiny_tokenizer
from tests.vllm_server import fake_python

pytestmark = pytest.mark.enable_socket
RECIPE = """\
name: served
seed: 3
stages:
  grpo:
    stage: grpo
    model: ./policy
    prompts: {file: asked.jsonl, holdout: 0.2}
    reward: {use: "pays:for_seven"}
    batch_size: 8
    best_of: 2
    lora: {r: 4}
    rollout: {engine: vllm, python: %s, max_gap: %s}
    training_args: {max_completion_length: 4, num_generations: 4, total_episodes: 48,
                    learning_rate: 1e-2, save_steps: 1, per_device_train_batch_size: 8}
"""
REWARD = """\
def for_seven(completion_ids, **rest):
    return [float(7 in each) for each in completion_ids]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy, prompts and a reward."""
    tiny_llama(0, 32).save_pretrained(tmp_path / "policy")
    tiny_tokenizer(32).save_pretrained(tmp_path / "policy")
    rows = ({"prompt": f"t{number} t4"} for number in range(2, 32))
    (tmp_path / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "pays.py").write_text(REWARD)
    return tmp_path


def test_a_stage_whose_server_dies_goes_on_with_another_one(folder: Path) -> None:
    """Exit code 3 and a line; then from the last checkpoint, though the server is another."""
    warm()
    recipe, runs = folder / "served.yaml", folder / "runs"
    dying = fake_python(folder, dies_after=30)
    recipe.write_text(RECIPE % (dying, 0.01))
    ended = run_forked(recipe, runs)
    assert ended.code == 3, ended.output
    assert "the vLLM server has ended by signal 9" in ended.output
    recipe.write_text(RECIPE % (fake_python(folder), 1e-9))
    again = run_forked(recipe, runs)
    assert again.code == 0, again.output
    assert "resumes from checkpoint-" in again.output
    assert "log-probabilities of vLLM are up to" in again.output
    stage = runs / "served" / "grpo"
    metrics = json.loads((stage / "artifact.json").read_text())["metrics"]
    assert metrics["steps"] == 6
    assert 0 < metrics["logp_gap_mean"] < metrics["logp_gap"] < 1e-4
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    rollouts = [line for line in lines if "objective/scores" in line]
    assert len(rollouts) == 6
    assert all(0 < line["engine/logp_gap"] < 1e-4 for line in rollouts)
    assert all(abs(line["importance/mean"] - 1) < 1e-3 for line in rollouts)
    assert (stage / "best_of_n.json").is_file()  # the reference, by the server too
