"""Four stages through a real Slurm of one node, two of them put back into the queue on the way."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.kills import hashes
from tests.slurm_cluster import cluster, why_not

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]
STEPS = "num_train_epochs: 4, save_strategy: steps, save_steps: 3"
SFT = "training_args: {learning_rate: 1e-3, "
RM = f"""\
  rm:
    stage: reward_model
    model: $sft
    data: [{{task: arithmetic, rows: 125}}]
    batch_size: 8
    {SFT}logging_steps: 1, {STEPS}}}
"""
FOUR = TINY.replace(SFT, f"{SFT}{STEPS}, ") + RM
STAGES = ("base", "sft", "rm")
SLURM = "launch={with: slurm, sbatch: {time: 1:00:00, mem: 2000}}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(FOUR)
    return path


def start(
    recipe: Path, runs: Path, launch: str, environment: dict[str, str], out: Path
) -> subprocess.Popen[bytes]:
    """Start `posttrain run`, its output in a file."""
    command = [sys.executable, "-P", "-m", "pipeline.cli", "run", str(recipe)]
    with out.open("w") as stream:
        return subprocess.Popen(
            [*command, "--runs", str(runs), "--set", launch, "--no-report"],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def ask(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return done.stdout


def wait_for(runs: Path, kind: str, out: Path) -> None:
    """Wait until a stage has a whole checkpoint."""
    for _ in range(12_000):
        if list(runs.glob(f"store/.working/{kind}-*/checkpoints/*/MANIFEST.json")):
            return
        time.sleep(0.05)
    raise AssertionError(out.read_text())


def job_of(runs: Path, kind: str) -> str:
    (path,) = runs.glob(f"store/.slurm/{kind}-*/submitted.json")
    return path.read_text().split('"number": "')[1].partition('"')[0]


def test_stages_that_slurm_puts_back_end_in_the_weights_of_a_local_run(
    recipe: Path, tmp_path: Path
) -> None:
    """One is asked to stop, as before its time limit; one is ended by force, as by preemption."""
    local, there, out = tmp_path / "local", tmp_path / "there", tmp_path / "out.txt"
    with cluster(tmp_path / "slurm") as environment:
        alone = start(recipe, local, "launch=in_process", environment, tmp_path / "local.txt")
        assert alone.wait(1200) == 0, (tmp_path / "local.txt").read_text()
        run = start(recipe, there, SLURM, environment, out)
        try:
            wait_for(there, "sft", out)
            ask(environment, "scancel", "--batch", "--signal=TERM", job_of(there, "sft"))
            wait_for(there, "reward_model", out)
            ask(environment, "scontrol", "requeue", job_of(there, "reward_model"))
            assert run.wait(1800) == 0, out.read_text()
        finally:
            run.kill()
    said = out.read_text()
    assert said.count("sft            resumes from checkpoint-") == 1, said
    assert said.count("rm             resumes from checkpoint-") == 1, said
    assert "is put back into the queue" in said
    for stage in STAGES:
        assert hashes(there, stage) == hashes(local, stage), stage


def test_a_cancelled_job_stays_so_and_the_next_run_goes_on(recipe: Path, tmp_path: Path) -> None:
    """Those that need it are not run; exit code 130, as of a local run that is stopped."""
    runs, out = tmp_path / "runs", tmp_path / "out.txt"
    with cluster(tmp_path / "slurm") as environment:
        run = start(recipe, runs, SLURM, environment, out)
        try:
            wait_for(runs, "sft", out)
            ask(environment, "scancel", job_of(runs, "sft"))
            assert run.wait(600) == 130, out.read_text()
            assert "rm             not run, since `sft` failed" in out.read_text()
            assert ask(environment, "squeue", "-h") == ""
            again = start(recipe, runs, SLURM, environment, tmp_path / "again.txt")
            assert again.wait(1200) == 0, (tmp_path / "again.txt").read_text()
        finally:
            run.kill()
    assert "sft            resumes from checkpoint-" in (tmp_path / "again.txt").read_text()
