"""A ppo stage under accelerate, in two processes, gives the weights and metrics of one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.forked import run_forked
from tests.stages.test_ppo_kills import STAGES, prepare

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
    command = [sys.executable, "-m", "pipeline.cli", "run", str(prepared.recipe)]
    command += ["--stage", stage, "--runs", str(two)]
    command += ["--set", f"stages.{stage}.launch={{with: accelerate, processes: 2}}"]
    command += ["--set", f"stages.{stage}.training_args.per_device_train_batch_size=1"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    folders = [runs / "tiny" / stage for runs in (one, two)]
    found = [path.relative_to(folders[0]) for path in folders[0].rglob("*.safetensors")]
    assert len(found) == 3  # of the policy, of the critic, of its head
    for path in found:
        first, second = (load_file(folder / path) for folder in folders)
        assert max(float((first[name] - second[name]).abs().max()) for name in first) <= 1e-6
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in folders]
    assert [each.keys() for each in lines[0]] == [each.keys() for each in lines[1]]
    for alone, together in zip(*lines, strict=True):
        assert together == pytest.approx(alone, abs=1e-5)
    written = [
        [json.loads(line)["completion"] for line in (folder / "samples.jsonl").open()]
        for folder in folders
    ]
    assert written[0] == written[1]
