"""A killed ppo stage ends as one that was left alone; a torn checkpoint of it is never used."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.files.names import MANIFEST
from tests.conftest import TINY
from tests.forked import Ended, run_forked, warm
from tests.kills import hashes, kill_and_compare
from tests.trained import train

_PPO = """\
    stage: ppo
    model: $sft
    prompts: [{task: arithmetic}]
    reward: [{model: $rm}, {use: "brief:brief", weight: 0.3}]
    reward_gate: off
    reward_normalisation: running
    missing_eos_penalty: 0.5
    kl: {coef: 0.05, target: 0.5, horizon: 100}
    batch_size: 4
    training_args: {learning_rate: 1e-3, per_device_train_batch_size: 2, num_mini_batches: 2,
                    num_ppo_epochs: 2, max_completion_length: 8, total_episodes: 48}
"""
# Rollouts have four steps, so that most of the checkpoints, of every three, lie within one.
RECIPE = f"""\
{TINY}\
  rm:
    stage: reward_model
    model: $sft
    data: [{{task: arithmetic, rows: 45}}]
    eval_data: [{{task: arithmetic, split: validation, rows: 20}}]
    batch_size: 8
    lora: {{r: 4}}
    training_args: {{learning_rate: 1e-2}}
  full:
    best_of: 0
{_PPO}\
  lora:
    lora: {{r: 4}}
    best_of: 2
{_PPO}\
"""
REWARDS = """\
def brief(completion_ids, **rest):
    return [-len(each) for each in completion_ids]
"""
STAGES = ("full", "lora")


def save(stage: str) -> list[str]:
    """Return what has a checkpoint written every three steps."""
    return [f"stages.{stage}.training_args.save_steps=3"]


@dataclass(frozen=True)
class Prepared:
    """A recipe, and a store in which the stages before ppo are done."""

    recipe: Path
    runs: Path

    def kill(self, stage: str, folder: Path, *, kills: int, seed: int) -> None:
        """Kill a stage so many times; fail unless each time it ended as it would have."""
        whole = shutil.copytree(self.runs, folder / "trained", symlinks=True)
        trained = train(self.recipe, whole, until=stage)
        tally = kill_and_compare(
            trained, folder, stage, kills=kills, seed=seed, overrides=save(stage)
        )
        print(*tally.said, sep="\n")
        assert tally.differ == 0, tally.said


def prepare(folder: Path) -> Prepared:
    """Train what ppo begins with."""
    warm()
    (folder / "brief.py").write_text(REWARDS)
    recipe, runs = folder / "tiny.yaml", folder / "runs"
    recipe.write_text(RECIPE)
    ended = run_forked(recipe, runs, until="rm")
    assert ended.code == 0, ended.output
    return Prepared(recipe, runs)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.mark.slow
def test_a_killed_stage_ends_in_the_same_weights_metrics_and_samples(
    prepared: Prepared, tmp_path: Path
) -> None:
    """B31, B34: with adapters; below all weights are trained."""
    prepared.kill("lora", tmp_path, kills=1, seed=5)


@pytest.fixture(scope="module")
def stopped(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store in which `full` was killed within its fifth rollout, and the true hashes."""
    folder = tmp_path_factory.mktemp("stopped")
    whole, runs = folder / "whole", folder / "runs"
    shutil.copytree(prepared.runs, whole, symlinks=True)
    shutil.copytree(prepared.runs, runs, symlinks=True)
    ended = run_forked(prepared.recipe, whole, overrides=save("full"), until="full")
    assert ended.code == 0, ended.output

    def is_due(_: float) -> bool:
        found = runs.glob("store/.working/ppo-*/out/metrics.jsonl")
        return any(path.read_bytes().count(b"\n") >= 4 for path in found)

    killed = run_forked(
        prepared.recipe, runs, overrides=save("full"), until="full", signal_when=is_due
    )
    assert killed.code is None, killed.output
    return runs, hashes(whole, "full")


def _missing(path: Path) -> None:
    path.unlink()


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("rollout.safetensors", _missing),
        ("critic/value_head.safetensors", _flipped),
    ],
)
def test_a_checkpoint_whose_part_is_torn_is_named_and_passed_over(
    prepared: Prepared, stopped: tuple[Path, list[str]], tmp_path: Path, name: str, spoil
) -> None:
    """B31, B34: without its rollout or its critic it would go on as another run."""
    runs = shutil.copytree(stopped[0], tmp_path / "runs", symlinks=True)
    found = runs.glob("store/.working/ppo-*/checkpoints/checkpoint-*")
    whole = [path for path in found if (path / MANIFEST).exists()]
    older, newest = sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]))[-2:]
    spoil(newest / name)
    ended: Ended = run_forked(prepared.recipe, runs, overrides=save("full"), until="full")
    assert ended.code == 0, ended.output
    assert f"torn checkpoint: {newest.name}: {name}" in ended.output
    assert f"resumes from {older.name}" in ended.output
    assert hashes(runs, "full") == stopped[1]
