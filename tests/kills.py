"""SIGKILL at random moments of one stage, run again, compare with the uninterrupted run."""

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.forked import Ended, run_forked
from tests.trained import Trained

_MORE = ("samples.jsonl", "best_of_n.json")  # of a ppo stage


@dataclass(frozen=True)
class Tally:
    """What became of the kills; resumed counts those that went on from a checkpoint."""

    kills: int
    resumed: int
    differ: int
    said: tuple[str, ...]


def hashes(runs: Path, stage: str) -> list[str]:
    """Return the sha256 of what a stage leaves, in runs of the tiny recipe; a critic's as well."""
    folder = runs / "tiny" / stage
    paths = [*sorted(folder.rglob("*.safetensors")), folder / "metrics.jsonl"]
    paths += [path for name in _MORE if (path := folder / name).exists()]
    return [
        f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in paths
    ]


def kill_and_compare(
    trained: Trained, folder: Path, stage: str, *, kills: int, seed: int, overrides: list[str]
) -> Tally:
    """Kill one stage `kills` times, each in a store of its own with all stages but it done.

    trained: with the overrides, as far as they change what is trained.
    Among several kills, one in three comes at a moment of the whole stage, which is timed first.
    """
    expected = hashes(trained.runs, stage)
    num_lines = (trained.runs / "tiny" / stage / "metrics.jsonl").read_bytes().count(b"\n")
    whole_s = _seconds_of(trained, folder / "whole", stage, overrides) if kills > 1 else 0.0
    moments = random.Random(seed)
    resumed = differ = 0
    said: list[str] = []
    for number in range(kills):
        runs = trained.without(stage, folder / f"kill-{number}")
        said_when, is_due = _moment(runs, number, moments, whole_s, num_lines)
        killed = run_forked(
            trained.recipe, runs, overrides=overrides, only=stage, signal_when=is_due
        )
        again = run_forked(trained.recipe, runs, overrides=overrides, only=stage)
        assert again.code == 0, again.output
        resumed += "resumes from" in again.output
        same = hashes(runs, stage) == expected
        differ += not same
        said.append(f"{stage} seed {seed} {said_when}: {_how(killed, again)}, same: {same}")
        shutil.rmtree(runs)
    return Tally(kills, resumed, differ, tuple(said))


def _seconds_of(trained: Trained, folder: Path, stage: str, overrides: list[str]) -> float:
    """Return how long a stage takes when nothing happens to it."""
    runs = trained.without(stage, folder)
    ended = run_forked(trained.recipe, runs, overrides=overrides, only=stage)
    assert ended.code == 0, ended.output
    assert hashes(runs, stage) == hashes(trained.runs, stage)
    return ended.seconds


def _moment(
    runs: Path, number: int, moments: random.Random, whole_s: float, num_lines: int
) -> tuple[str, Callable[[float], bool]]:
    """Draw when to kill: after some seconds, or (two of three) after some lines of metrics.

    Seconds reach loading, measuring and saving as well; lines are always within the training.
    """
    if number % 3 == 1:
        at_s = moments.uniform(0.1, 0.97) * whole_s
        return f"at {at_s:.2f} s", lambda seconds: seconds >= at_s
    at_line = moments.randint(1, num_lines - 1)

    def is_due(_: float) -> bool:
        found = runs.glob("store/.working/*/out/metrics.jsonl")
        return any(path.read_bytes().count(b"\n") >= at_line for path in found)

    return f"at step {at_line}", is_due


def _how(killed: Ended, again: Ended) -> str:
    if killed.code is not None:
        return "it was done already"
    line = next((line for line in again.output.splitlines() if "resumes from" in line), "")
    return line.split(maxsplit=1)[1] if line else "it started over"
