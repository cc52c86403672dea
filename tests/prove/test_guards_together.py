"""A sign stops all processes of a training, with the policy and the judge's counts of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.forked import run_forked
from tests.small_judging import write_judged_recipe
from tests.together import difference, metrics, train_together, weights

pytestmark = pytest.mark.slow
RECIPE = """\
name: tiny
seed: 5
stages:
  rloo:
    stage: rloo
    model: ./chat
    prompts: {file: asked.jsonl}
    batch_size: 4
    reward: [{judge: {model: ./wide, licence: off}}, {use: "mine:vowels", weight: 0}]
    stop_when: {kl: 1.0e-6}
    training_args: {max_steps: 40, max_completion_length: 8, num_generations: 2, num_iterations: 1,
      learning_rate: 1.0e-3}
"""


def _found(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "tiny/rloo/artifact.json").read_text())["metrics"]


def test_two_processes_stop_at_the_sign_that_stops_one(tmp_path: Path) -> None:
    recipe = write_judged_recipe(tmp_path, RECIPE)
    one, two = tmp_path / "one", tmp_path / "two"
    ended = run_forked(recipe, one)
    assert ended.code == 0, ended.output
    said = train_together(recipe, two, "rloo", per_device=1)
    assert "stopped in rollout" in said or "stopped in rollout" in ended.output
    alone, together = _found(one), _found(two)
    for name in ("stopped_by", "stopped_at_rollout", "stopped_policy_of_rollout"):
        assert together[name] == alone[name], name
    assert alone["stopped_by"] == "kl"
    assert len(metrics(one, "rloo")) == len(metrics(two, "rloo")) < 40
    assert difference(one, two, "rloo") <= 1e-6
    assert weights(two / "tiny/rloo")
    counts, of_two = alone["judges"]["wide"], together["judges"]["wide"]
    assert of_two["asked"] == counts["asked"] > 0
    assert of_two["failed"] == counts["failed"] == 0
    assert together["probes"]["wide"].keys() == alone["probes"]["wide"].keys()
    assert alone["probes"]["wide"]["colon"]["asked"] == 2
