"""The same stage in this process, in one of its own, and under accelerate."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.kills import hashes


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    from tests.conftest import TINY

    warm()
    folder = tmp_path_factory.mktemp("launch")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY)
    assert run_forked(recipe, folder / "runs", until="base").code == 0
    return recipe, hashes(folder / "runs", "base")


def _posttrain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_process_of_its_own_gives_the_same_weights(
    in_process: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe, expected = in_process
    runs = tmp_path / "runs"
    ended = _posttrain(
        "run", str(recipe), "--until", "base", "--runs", str(runs), "--set", "launch=python"
    )
    assert ended.returncode == 0, ended.stderr
    assert hashes(runs, "base") == expected


@pytest.mark.parametrize(
    ("stage", "before"), [("base", "tokenizer"), ("sft", "base"), ("dpo", "sft")]
)
def test_two_processes_under_accelerate_give_the_parameters_of_one(
    stage: str, before: str, tmp_path: Path
) -> None:
    """The last step of SFT is not full: the rows that fill up the second process count nothing."""
    from safetensors.torch import load_file

    from tests.conftest import ALIGNED

    warm()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(ALIGNED.replace("rows: 160", "rows: 157"))
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_forked(recipe, one, until=before).code == 0
    shutil.copytree(one, two, symlinks=True)
    ended = run_forked(recipe, one, until=stage)
    assert ended.code == 0, ended.output
    said = _posttrain(
        *("run", str(recipe), "--stage", stage, "--runs", str(two)),
        *("--set", f"stages.{stage}.launch={{with: accelerate, processes: 2}}"),
        *("--set", f"stages.{stage}.training_args.per_device_train_batch_size=4"),
    )
    assert said.returncode == 0, said.stderr
    first, second = (load_file(runs / "tiny" / stage / "model.safetensors") for runs in (one, two))
    assert max(float((first[name] - second[name]).abs().max()) for name in first) <= 1e-5


def test_a_stage_that_fails_in_its_own_process_says_so_in_one_line(
    in_process: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe, _ = in_process
    ended = _posttrain(
        *("run", str(recipe), "--until", "base", "--runs", str(tmp_path / "runs")),
        *("--set", "launch=python", "--set", "stages.base.training_args.learning_rate=1e30"),
    )
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("base: the ")
    assert "is not finite at step" in ended.stderr
    assert "Traceback" not in ended.stderr
