"""The same stage in this process, in one of its own, and in several that share the work."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.kills import hashes
from tests.together import command, difference, metrics, ranks_of, train_together


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and a store in which its stages up to `dpo_lora` were trained in this process."""
    from tests.conftest import ALIGNED

    warm()
    folder = tmp_path_factory.mktemp("launch")
    recipe = folder / "tiny.yaml"
    recipe.write_text(ALIGNED.replace("rows: 160", "rows: 157"))
    ended = run_forked(recipe, folder / "runs", until="dpo_lora")
    assert ended.code == 0, ended.output
    ended = run_forked(recipe, folder / "runs", until="sft")
    assert ended.code == 0, ended.output
    return recipe, folder / "runs"


def _posttrain(*arguments: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


def _without(runs: Path, stage: str, folder: Path) -> Path:
    """Return a copy of a store in which one stage is not trained."""
    found = folder / "runs"
    shutil.copytree(runs, found, symlinks=True)
    shutil.rmtree((found / "tiny" / stage).resolve())
    return found


def test_a_process_of_its_own_gives_the_same_weights(
    in_process: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe, whole = in_process
    runs = _without(whole, "base", tmp_path)
    ended = _posttrain(
        *("run", str(recipe), "--stage", "base", "--runs", str(runs)),
        *("--set", "stages.base.launch=python"),
    )
    assert ended.returncode == 0, ended.stderr
    assert hashes(runs, "base") == hashes(whole, "base")


@pytest.mark.parametrize("stage", ["sft", "dpo_lora"])
def test_two_processes_give_the_parameters_of_one(
    stage: str, in_process: tuple[Path, Path], tmp_path: Path
) -> None:
    """157 rows of SFT: those that fill up the last step's passes are neither learnt nor counted.

    The reference of DPO is computed beforehand, by both processes.
    """
    recipe, one = in_process
    two = _without(one, stage, tmp_path)
    train_together(recipe, two, stage)
    assert difference(one, two, stage) <= 1e-5
    means = ("entropy", "mean_token_accuracy") if stage == "sft" else ()
    for name in ("num_tokens", "epoch", "loss", *means):
        alone, together = ([line[name] for line in metrics(runs, stage)] for runs in (one, two))
        assert together == pytest.approx(alone, abs=1e-5), name


def test_a_process_that_fails_ends_the_others_and_says_so_in_one_line(
    in_process: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe, whole = in_process
    runs = _without(whole, "base", tmp_path)
    asked = command(
        *(recipe, runs, "base"),
        **{"processes": 2, "per_device": 2, "sets": ("training_args.learning_rate=1e30",)},
    )
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as runner:
        said = runner.communicate()[1]
        assert ranks_of(runner.pid) == {}
    assert runner.returncode == 2
    assert said.strip().splitlines()[-1].startswith("base: the ")
    assert "is not finite at step" in said
    assert "Traceback" not in said


def test_when_one_process_is_killed_the_others_do_not_wait_for_it(
    in_process: tuple[Path, Path], tmp_path: Path
) -> None:
    """It is killed before they have met: the other one would wait half an hour."""
    recipe, whole = in_process
    runs = _without(whole, "base", tmp_path)
    asked = command(recipe, runs, "base", processes=2, per_device=2, sets=())
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as runner:
        _wait_until_they_are_at_it(runs)
        (second,) = (each for each, rank in ranks_of(runner.pid).items() if rank == 1)
        os.kill(second, signal.SIGKILL)
        said = runner.communicate(timeout=100)[1]
    assert runner.returncode == 3
    assert "base: process 2 of 2 was killed by SIGKILL, though not by the kernel" in said
    assert "Traceback" not in said
    assert ranks_of(runner.pid) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORLD_SIZE", "2", "WORLD_SIZE is 2, the recipe asks for 1; start posttrain once;"),
        ("ACCELERATE_USE_FSDP", "true", "ACCELERATE_USE_FSDP is set, and no stage can save"),
    ],
)
def test_what_a_launcher_left_in_the_environment_does_not_change_what_is_run(
    in_process: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    value: str,
    said: str,
) -> None:
    recipe, whole = in_process
    runs = _without(whole, "base", tmp_path)
    monkeypatch.setenv(name, value)
    ended = _posttrain("run", str(recipe), "--stage", "base", "--runs", str(runs))
    assert ended.returncode == 3
    assert f"base: {said}" in ended.stderr


def test_no_process_outlives_the_runner_and_until_then_it_holds_the_stages_lock(
    in_process: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe, whole = in_process
    runs = _without(whole, "base", tmp_path)
    asked = command(recipe, runs, "base", processes=2, per_device=2, sets=())
    with subprocess.Popen(asked, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as runner:
        _wait_until_they_are_at_it(runs)
        ranks = ranks_of(runner.pid)
        (lock,) = (runs / "store" / ".locks").glob("pretrain-*.lock")
        holders = [pid for pid in ranks if str(lock.resolve()) in _open_files(pid)]
        runner.kill()
    assert sorted(ranks.values()) == [0, 1]
    assert sorted(holders) == sorted(ranks)
    for _ in _every(0.05):
        is_held = _is_held(lock)
        if not ranks_of(runner.pid):
            break
        assert is_held
    next(None for _ in _every(0.05) if not _is_held(lock))
    assert not list(
        (runs / "store" / ".working").glob("*/result.json")
    )  # they stopped; they did not come to their end


def _open_files(pid: int) -> set[str]:
    return {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


def _wait_until_they_are_at_it(runs: Path) -> None:
    working = runs / "store" / ".working"
    next(None for _ in _every(0.05) if list(working.glob("*/out/log.txt")))


def _every(seconds: float, at_most_s: float = 120) -> Iterator[None]:
    until_s = time.monotonic() + at_most_s
    while time.monotonic() < until_s:
        yield
        time.sleep(seconds)
    pytest.fail(f"it did not come in {at_most_s} s")


def _is_held(lock: Path) -> bool:
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
