"""A ppo stage under accelerate, in two processes, gives the weights and metrics of one."""

import json
import shutil
from pathlib import Path

import pytest

from tests.forked import run_forked
from tests.stages.test_ppo_kills import STAGES, prepare
from tests.together import difference, metrics, train_together

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_of_ppo_end_where_one_does(stage: str, tmp_path: Path) -> None:
    """B48, B49, B58: what the stage adds to the trainer too, such as gold scores and samples."""
    prepared = prepare(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    for runs in (one, two):
        shutil.copytree(prepared.runs, runs, symlinks=True)
    ended = run_forked(prepared.recipe, one, until=stage)
    assert ended.code == 0, ended.output
    train_together(prepared.recipe, two, stage, per_device=1)
    folders = [runs / "tiny" / stage for runs in (one, two)]
    assert len(list(folders[0].rglob("*.safetensors"))) == 3  # of policy, critic and its head
    assert difference(one, two, stage) <= 1e-6
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in folders]
    assert [each.keys() for each in lines[0]] == [each.keys() for each in lines[1]]
    for alone, together in zip(*lines, strict=True):
        assert together == pytest.approx(alone, abs=1e-5)
    written = [
        [json.loads(line)["completion"] for line in (folder / "samples.jsonl").open()]
        for folder in folders
    ]
    assert written[0] == written[1]


EVALUATED = (
    "training_args.eval_strategy=steps",
    "training_args.eval_steps=4",
    "training_args.total_episodes=16",
    "eval_data={task: arithmetic, split: validation, rows: 11}",
)


def test_two_processes_evaluate_ppo_as_one_does(tmp_path: Path) -> None:
    """With an odd number of prompts: no process answers one twice, none is left out."""
    prepared = prepare(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    for runs in (one, two):
        shutil.copytree(prepared.runs, runs, symlinks=True)
    overrides = [f"stages.lora.{each}" for each in EVALUATED]
    ended = run_forked(prepared.recipe, one, overrides=overrides, until="lora")
    assert ended.code == 0, ended.output
    train_together(prepared.recipe, two, "lora", *EVALUATED, per_device=1)
    assert difference(one, two, "lora") <= 1e-6
    found = [
        [line for line in metrics(runs, "lora") if "eval_objective/scores" in line]
        for runs in (one, two)
    ]
    assert len(found[0]) == len(found[1]) >= 2
    for alone, together in zip(*found, strict=True):
        figures = [name for name in alone if name.startswith("eval_") and "second" not in name]
        assert {name: together[name] for name in figures} == pytest.approx(
            {name: alone[name] for name in figures}, abs=1e-5
        )
