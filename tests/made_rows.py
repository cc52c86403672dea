"""A tiny recipe that has run as a whole in a folder, and the rows and metrics of its stages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import Said


def run_whole(folder: Path, write: Callable[[Path], object]) -> Said:
    """Let `write` put `tiny.yaml` and what it needs into a folder, and run it there."""
    from tests.forked import run_forked, warm

    write(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        warm()
        ended = run_forked(folder / "tiny.yaml", folder / "runs")
    return Said(ended.code or 0, ended.output, "")


def rows_of(folder: Path, stage: str, runs: str = "runs") -> list[dict[str, Any]]:
    """Return the rows that a stage made."""
    lines = (folder / runs / "tiny" / stage / "rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def metrics_of(folder: Path, stage: str, runs: str = "runs") -> dict[str, Any]:
    """Return the metrics of a finished stage."""
    artifact = folder / runs / "tiny" / stage / "artifact.json"
    return json.loads(artifact.read_text())["metrics"]
