"""A stage trained by several processes through the command, and how far it is from another run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def command(
    recipe: Path, runs: Path, stage: str, *, processes: int, per_device: int, sets: tuple[str, ...]
) -> list[str]:
    """Return the command that trains a stage in so many processes."""
    changes = (
        f"launch={{with: accelerate, processes: {processes}}}",
        f"training_args.per_device_train_batch_size={per_device}",
        *sets,
    )
    given = [sys.executable, "-m", "pipeline.cli", "run", str(recipe)]
    given += ["--stage", stage, "--runs", str(runs)]
    return [*given, *(each for one in changes for each in ("--set", f"stages.{stage}.{one}"))]


def train_together(
    recipe: Path,
    runs: Path,
    stage: str,
    *sets: str,
    processes: int = 2,
    per_device: int = 2,
) -> str:
    """Train a stage in processes of which each one was there; returns what was said."""
    asked = command(recipe, runs, stage, processes=processes, per_device=per_device, sets=sets)
    ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert world_size(runs, stage) == processes
    return ended.stdout


def world_size(runs: Path, stage: str) -> int:
    """Return how many processes found one another when a stage was trained, as each one saw it."""
    artifact = json.loads((runs / "tiny" / stage / "artifact.json").read_text())
    return artifact["provenance"]["world_size"]


def weights(folder: Path) -> dict[str, Any]:
    """Return every tensor that a stage leaves, a critic's too, by file and name."""
    return {
        f"{path.relative_to(folder)} {name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def difference(one: Path, two: Path, stage: str) -> float:
    """Return the largest difference of any weight of a stage between two stores."""
    first, second = (weights(runs / "tiny" / stage) for runs in (one, two))
    assert first.keys() == second.keys()
    assert first
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def metrics(runs: Path, stage: str) -> list[dict[str, float]]:
    """Return the lines of a stage's metrics."""
    path = runs / "tiny" / stage / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def ranks_of(runner: int) -> dict[int, int]:
    """Return the rank of every process that a runner has started, by its id."""
    found: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            given = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        names = dict(each.split(b"=", 1) for each in given if b"=" in each)
        if names.get(b"POSTTRAIN_PARENT") == str(runner).encode():
            found[int(folder.name)] = int(names.get(b"RANK", b"0"))
    return found
