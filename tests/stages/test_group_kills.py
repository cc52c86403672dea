"""A killed stage without a critic ends as one that was left alone, prompts drawn anew included.

Distillation with them, which is the same loop.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.kills import Tally, kill_and_compare
from tests.trained import train

# Rollouts have four steps, so that most of the checkpoints, of every three, lie within one.
_SHARED = """\
    model: $sft
    prompts: [{task: arithmetic}]
    reward: [{use: "kinds:kinds"}, {use: "kinds:even"}]
    batch_size: 8
    best_of: 0
"""
_ARGUMENTS = """learning_rate: 1e-3, per_device_train_batch_size: 4, num_iterations: 2,
                    generation_batch_size: 16, dynamic_sampling: 2, max_completion_length: 8,
                    total_episodes: 160"""
RECIPE = f"""\
{TINY}\
  grpo:
    stage: grpo
{_SHARED}\
    missing_eos_penalty: 0.5
    training_args: {{{_ARGUMENTS}, num_generations: 4, beta: 0.02, overlong_cache: 4}}
  gspo:
    stage: grpo
    lora: {{r: 4}}
{_SHARED}\
    training_args: {{{_ARGUMENTS}, num_generations: 4, importance_sampling_level: sequence,
                    epsilon: 0.02}}
  rloo:
    stage: rloo
{_SHARED}\
    reward_normalisation: running
    training_args: {{{_ARGUMENTS}, num_generations: 2}}
  tools:
    stage: grpo
{_SHARED}\
    tools: [calculator]
    training_args: {{{_ARGUMENTS}, num_generations: 4}}
  distill:
    stage: distill
    model: $base
    teacher: $sft
    prompts: [{{task: arithmetic}}]
    batch_size: 8
    training_args: {{learning_rate: 1e-3, per_device_train_batch_size: 4, num_iterations: 2,
                    generation_batch_size: 16, max_completion_length: 8, total_episodes: 160}}
"""
# Few kinds of tokens in a response, so that many groups have no spread; some have no score at all.
REWARDS = """\
def kinds(completion_ids, **rest):
    return [float(len(set(each)) > 6) for each in completion_ids]


def even(completion_ids, **rest):
    return [0.5 if each[0] % 2 else None for each in completion_ids]
"""
STAGES = ("grpo", "gspo", "rloo", "tools", "distill")


@dataclass(frozen=True)
class Prepared:
    """A recipe, and a store in which the stages before are done."""

    recipe: Path
    runs: Path

    def kill(self, stage: str, folder: Path, *, kills: int, seed: int) -> Tally:
        """Kill a stage so many times; fail unless each time it ended as it would have."""
        whole = shutil.copytree(self.runs, folder / "trained", symlinks=True)
        trained = train(self.recipe, whole, until=stage)
        save = [f"stages.{stage}.training_args.save_steps=3"]
        tally = kill_and_compare(trained, folder, stage, kills=kills, seed=seed, overrides=save)
        print(*tally.said, sep="\n")
        assert tally.differ == 0, tally.said
        written = whole / "tiny" / stage / "metrics.jsonl"
        lines = [json.loads(line) for line in written.read_text().splitlines()]
        if stage != "distill":  # which compares no groups, and has no reward
            assert sum(line["groups/replaced"] for line in lines) > 0
            assert sum(line["rewards/kinds/mean"] for line in lines) > 0
        return tally


def prepare(folder: Path) -> Prepared:
    """Train what the stages begin with."""
    warm()
    (folder / "kinds.py").write_text(REWARDS)
    recipe, runs = folder / "tiny.yaml", folder / "runs"
    recipe.write_text(RECIPE)
    ended = run_forked(recipe, runs, until="sft")
    assert ended.code == 0, ended.output
    return Prepared(recipe, runs)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.mark.slow
def test_a_killed_stage_ends_in_the_same_weights_metrics_and_samples(
    prepared: Prepared, tmp_path: Path
) -> None:
    """B31, B34: an adapter, ratios of whole responses; tests/prove has the others."""
    prepared.kill("gspo", tmp_path, kills=1, seed=5)
