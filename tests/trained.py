"""The stages of a recipe trained once for all test files and workers; each test takes a copy."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock

from tests.forked import run_forked, warm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


@dataclass(frozen=True)
class Trained:
    """A recipe named `tiny`, and the folder with the runs of all of its stages."""

    recipe: Path
    runs: Path

    def copy(self, folder: Path) -> Path:
        """Return a copy of the runs, in a folder, for a recipe that begins like this one."""
        return shutil.copytree(self.runs, folder / "runs", symlinks=True)

    def without(self, stage: str, folder: Path) -> Path:
        """Return a copy of the runs, in a folder, in which one stage is not trained."""
        copy = self.copy(folder)
        shutil.rmtree((copy / "tiny" / stage).resolve())
        return copy


def train(
    recipe: Path, runs: Path, *, until: str | None = None, overrides: Sequence[str] = ()
) -> Trained:
    """Train a recipe's stages, up to one of them, in a forked process."""
    warm()
    ended = run_forked(recipe, runs, until=until, overrides=overrides)
    assert ended.code == 0, ended.output
    return Trained(recipe, runs)


def train_once(factory: pytest.TempPathFactory, recipe: str) -> Trained:
    """Train a recipe, unless a worker of this session has done so; the others wait for it."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    shared = factory.getbasetemp().parent if is_worker else factory.getbasetemp()
    folder = shared / "trained"
    trained = Trained(folder / "tiny.yaml", folder / "runs")
    with FileLock(shared / "trained.lock"):
        if not (folder / "done").is_file():
            folder.mkdir()
            trained.recipe.write_text(recipe)
            train(trained.recipe, trained.runs)
            (folder / "done").touch()
    return trained
