"""SIGKILL at random moments of one stage, run again, compare with the uninterrupted run."""

import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.forked import Ended, run_forked

COMPARED = ("model.safetensors", "metrics.jsonl")


@dataclass(frozen=True)
class Tally:
    """What became of the kills; resumed counts those that went on from a checkpoint."""

    kills: int
    resumed: int
    differ: int
    said: tuple[str, ...]


def hashes(runs: Path, stage: str) -> list[str]:
    """Return the sha256 of what a stage leaves, in runs of the tiny recipe."""
    folder = runs / "tiny" / stage
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in COMPARED]


def kill_and_compare(
    recipe: Path,
    folder: Path,
    stage: str,
    before: str,
    *,
    kills: int,
    seed: int,
    overrides: list[str],
) -> Tally:
    """Kill one stage `kills` times, each in a store of its own with the stages before it done."""
    prepared = folder / "prepared"
    assert run_forked(recipe, prepared, overrides=overrides, until=before).code == 0
    whole = folder / "whole"
    shutil.copytree(prepared, whole, symlinks=True)
    uninterrupted = run_forked(recipe, whole, overrides=overrides, until=stage)
    assert uninterrupted.code == 0, uninterrupted.output
    expected = hashes(whole, stage)
    moments = random.Random(seed)
    resumed = differ = 0
    said: list[str] = []
    for number in range(kills):
        runs = folder / f"kill-{number}"
        shutil.copytree(prepared, runs, symlinks=True)
        at_s = moments.uniform(0.1, 0.97) * uninterrupted.seconds
        killed = run_forked(
            recipe, runs, overrides=overrides, until=stage, signal_when=lambda s, at=at_s: s >= at
        )
        again = run_forked(recipe, runs, overrides=overrides, until=stage)
        assert again.code == 0, again.output
        resumed += "resumes from" in again.output
        same = hashes(runs, stage) == expected
        differ += not same
        said.append(f"{stage} seed {seed} at {at_s:.2f} s: {_how(killed, again)}, same: {same}")
        shutil.rmtree(runs)
    return Tally(kills, resumed, differ, tuple(said))


def _how(killed: Ended, again: Ended) -> str:
    if killed.code is not None:
        return "it was done already"
    line = next((line for line in again.output.splitlines() if "resumes from" in line), "")
    return line.split(maxsplit=1)[1] if line else "it started over"
