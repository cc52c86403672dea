"""The same stage in this process, in one of its own, and in several that share the work."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.forked_ranks import fork_ranks, split_over
from tests.kills import hashes
from tests.together import command, difference, metrics, ranks_of, world_size
from tests.trained import Trained


def test_a_process_of_its_own_gives_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    """Forked here; below two are started as the command starts them."""
    warm()
    runs = trained.without("base", tmp_path)
    ended = run_forked(
        *(trained.recipe, runs),
        **{"only": "base", "overrides": ["stages.base.launch=python"], "first": fork_ranks},
    )
    assert ended.code == 0, ended.output
    assert hashes(runs, "base") == hashes(trained.runs, "base")


@pytest.mark.enable_socket
def test_two_processes_give_the_parameters_of_one(trained: Trained, tmp_path: Path) -> None:
    """157 rows of SFT: those that fill up the last step's passes are neither learnt nor counted.

    They are started as the command starts them. Of the other stages,
    tests/prove/test_launched_stages.py.
    """
    warm()
    stage = "sft"
    two = trained.without(stage, tmp_path)
    asked = split_over(stage, "training_args.per_device_train_batch_size=2", more="")
    ended = run_forked(trained.recipe, two, overrides=asked, only=stage)
    assert ended.code == 0, ended.output
    assert world_size(two, stage) == 2
    assert difference(trained.runs, two, stage) <= 1e-5
    for name in ("num_tokens", "epoch", "loss", "entropy", "mean_token_accuracy"):
        alone, together = (
            [line[name] for line in metrics(runs, stage)] for runs in (trained.runs, two)
        )
        assert together == pytest.approx(alone, abs=1e-5), name


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_and_says_so_in_one_line(
    trained: Trained, tmp_path: Path
) -> None:
    runs = trained.without("base", tmp_path)
    asked = command(
        *(trained.recipe, runs, "base"),
        **{"processes": 2, "per_device": 2, "sets": ("training_args.learning_rate=1e30",)},
    )
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as runner:
        said = runner.communicate()[1]
        assert ranks_of(runner.pid) == {}
    assert runner.returncode == 2
    assert said.strip().splitlines()[-1].startswith("base: the ")
    assert "is not finite at step" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_when_one_process_is_killed_the_others_do_not_wait_for_it(
    trained: Trained, tmp_path: Path
) -> None:
    """It is killed before they have met: the other one would wait half an hour."""
    runs = trained.without("base", tmp_path)
    asked = command(trained.recipe, runs, "base", processes=2, per_device=2, sets=())
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
        pytest.param(
            *("ACCELERATE_USE_FSDP", "true", "ACCELERATE_USE_FSDP is set, and `launch` in the"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_launcher_left_in_the_environment_does_not_change_what_is_run(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    value: str,
    said: str,
) -> None:
    warm()
    runs = trained.without("base", tmp_path)
    monkeypatch.setenv(name, value)
    ended = run_forked(trained.recipe, runs, only="base")
    assert ended.code == 3
    assert f"base: {said}" in ended.output


def test_no_process_outlives_the_runner_and_until_then_it_holds_the_stages_lock(
    trained: Trained, tmp_path: Path
) -> None:
    runs = trained.without("base", tmp_path)
    asked = command(trained.recipe, runs, "base", processes=2, per_device=2, sets=())
    with subprocess.Popen(asked, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as runner:
        _wait_until_they_are_at_it(runs)
        ranks = ranks_of(runner.pid)
        locks = (runs / "store" / ".locks").glob("pretrain-*.lock")
        (lock,) = (each for each in locks if _is_held(each))  # of `base`, not of `more_lora`
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
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found.add(str(each.readlink()))
    return found


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
