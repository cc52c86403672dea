"""What a run does with what a killed one left."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from pipeline.files.names import MANIFEST
from tests.forked import run_forked, warm
from tests.kills import hashes

SAVE = ["stages.base.training_args.save_steps=5"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A recipe, a store in which `base` was killed after some checkpoints, and the true hashes."""
    from tests.conftest import TINY

    warm()
    folder = tmp_path_factory.mktemp("stopped")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY)
    whole = run_forked(recipe, folder / "whole", overrides=SAVE, until="base")
    assert whole.code == 0, whole.output
    runs = folder / "killed"
    killed = run_forked(
        recipe, runs, overrides=SAVE, until="base", signal_when=lambda _: _steps_logged(runs) >= 22
    )
    assert killed.code is None, killed.output
    return recipe, runs, hashes(folder / "whole", "base")


def _steps_logged(runs: Path) -> int:
    """Return how many lines the running pre-training has written to its metrics."""
    for path in runs.glob("store/.working/pretrain-*/out/metrics.jsonl"):
        return path.read_bytes().count(b"\n")
    return 0


def _checkpoints(runs: Path) -> list[Path]:
    found = runs.glob("store/.working/pretrain-*/checkpoints/checkpoint-*")
    whole = [path for path in found if (path / MANIFEST).exists()]
    return sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]))


@pytest.fixture
def runs(stopped: tuple[Path, Path, list[str]], tmp_path: Path) -> Path:
    """A copy of the stopped store, to be spoiled."""
    return shutil.copytree(stopped[1], tmp_path / "runs", symlinks=True)


def _missing(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


_TORN = [
    ("model.safetensors", _missing),
    ("optimizer.pt", _cut),
    ("rng_state.pth", _flipped),
    *(
        pytest.param(*each, marks=pytest.mark.slow)
        for each in (
            ("model.safetensors", _cut),
            ("model.safetensors", _flipped),
            ("optimizer.pt", _missing),
            ("optimizer.pt", _flipped),
            ("rng_state.pth", _missing),
            ("rng_state.pth", _cut),
        )
    ),
]


@pytest.mark.parametrize(("name", "spoil"), _TORN)
def test_a_torn_newest_checkpoint_is_named_and_the_one_before_is_used(
    stopped: tuple[Path, Path, list[str]], runs: Path, name: str, spoil
) -> None:
    older, newest = _checkpoints(runs)[-2:]
    spoil(newest / name)
    ended = run_forked(stopped[0], runs, overrides=SAVE, until="base")
    assert ended.code == 0, ended.output
    assert f"torn checkpoint: {newest.name}: {name}" in ended.output
    assert f"resumes from {older.name}" in ended.output
    assert hashes(runs, "base") == stopped[2]


def test_no_whole_checkpoint_left_is_an_error_and_not_a_silent_new_start(
    stopped: tuple[Path, Path, list[str]], runs: Path
) -> None:
    for checkpoint in _checkpoints(runs):
        _flipped(checkpoint / "model.safetensors")
    ended = run_forked(stopped[0], runs, overrides=SAVE, until="base")
    assert ended.code == 4
    assert "no whole checkpoint is left" in ended.output
    again = run_forked(stopped[0], runs, overrides=SAVE, until="base")
    assert again.code == 0
    assert hashes(runs, "base") == stopped[2]


def test_a_half_written_checkpoint_never_counted(
    stopped: tuple[Path, Path, list[str]], runs: Path
) -> None:
    newest = _checkpoints(runs)[-1]
    half = newest.with_name("checkpoint-999")
    half.mkdir()
    shutil.copyfile(newest / "config.json", half / "config.json")
    ended = run_forked(stopped[0], runs, overrides=SAVE, until="base")
    assert f"resumes from {newest.name}" in ended.output
    assert hashes(runs, "base") == stopped[2]


def test_a_finished_stage_trains_nothing_when_run_again(
    stopped: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    """Upstream trains one step more each time; here the last checkpoint is at the last step."""
    recipe, _, _ = stopped
    every_step = ["stages.base.training_args.save_steps=1", "stages.base.tokens=2k"]
    runs = tmp_path / "runs"
    assert run_forked(recipe, runs, overrides=every_step, until="base").code == 0
    expected = hashes(runs, "base")
    cached = run_forked(recipe, runs, overrides=every_step, until="base")
    assert "base           cached" in cached.output
    # As if the kill had come between the last checkpoint and publishing.
    artifact = next(runs.glob("store/pretrain-*"))
    steps = json.loads((artifact / "artifact.json").read_text())["metrics"]["steps"]
    unpublished = tmp_path / "unpublished"
    last = unpublished / "store/.working" / artifact.name / f"checkpoints/checkpoint-{steps}"
    killed = run_forked(
        recipe,
        unpublished,
        overrides=every_step,
        until="base",
        signal_when=lambda _: (last / MANIFEST).exists(),
    )
    assert killed.code is None
    ended = run_forked(recipe, unpublished, overrides=every_step, until="base")
    assert ended.code == 0
    assert hashes(unpublished, "base") == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_ends_with_130_after_a_checkpoint_and_goes_on_from_it(
    stopped: tuple[Path, Path, list[str]], tmp_path: Path, number: int
) -> None:
    recipe, _, expected = stopped
    runs = tmp_path / "runs"
    # No cadence given: the only checkpoint is the one that the stop writes.
    ended = run_forked(
        recipe, runs, until="base", signal_when=lambda _: _steps_logged(runs) >= 5, number=number
    )
    assert ended.code == 130, ended.output
    assert len(_checkpoints(runs)) == 1
    again = run_forked(recipe, runs, until="base")
    assert "resumes from" in again.output
    assert hashes(runs, "base") == expected


def test_a_changed_batch_split_starts_over_and_says_so_unless_told_otherwise(
    stopped: tuple[Path, Path, list[str]], runs: Path
) -> None:
    recipe = stopped[0]
    changed = [*SAVE, "stages.base.training_args.per_device_train_batch_size=4"]
    ended = run_forked(recipe, runs, overrides=changed, until="base")
    assert "starts over, since this changed: per_device_train_batch_size: None -> 4" in ended.output
    assert ended.code == 0


def test_a_changed_logging_cadence_resumes(
    stopped: tuple[Path, Path, list[str]], runs: Path
) -> None:
    ended = run_forked(
        stopped[0],
        runs,
        overrides=[*SAVE, "stages.base.training_args.logging_steps=2"],
        until="base",
    )
    assert "resumes from" in ended.output
    assert hashes(runs, "base")[0] == stopped[2][0]
