"""One SIGKILL a stage; `make prove` does many, of every kind of stage."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.kills import hashes, kill_and_compare
from tests.trained import Trained

_SLOW = [pytest.param(stage, marks=pytest.mark.slow) for stage in ("rm_lora", "kto_lora")]


@pytest.mark.parametrize("stage", ["sft", "dpo_lora", *_SLOW])
def test_a_killed_stage_ends_in_the_same_weights_and_metrics(
    stage: str, trained: Trained, tmp_path: Path
) -> None:
    warm()
    tally = kill_and_compare(
        trained,
        tmp_path,
        stage,
        kills=1,
        seed=5,
        overrides=[f"stages.{stage}.training_args.save_steps=3"],
    )
    assert tally.differ == 0, tally.said


@pytest.mark.parametrize("stage", ["rm_lora", pytest.param("dpo_lora", marks=pytest.mark.slow)])
def test_a_killed_stage_whose_encoded_rows_are_gone_makes_the_same_anew_and_goes_on(
    stage: str, trained: Trained, tmp_path: Path
) -> None:
    warm()
    runs = trained.without(stage, tmp_path)
    expected, kept = hashes(trained.runs, stage), _encoded(runs)
    num_steps = (trained.runs / "tiny" / stage / "metrics.jsonl").read_bytes().count(b"\n")
    overrides = [f"stages.{stage}.training_args.save_steps=2"]

    def is_due(_: float) -> bool:
        found = runs.glob("store/.working/*/out/metrics.jsonl")
        return any(path.read_bytes().count(b"\n") >= num_steps - 1 for path in found)

    killed = run_forked(trained.recipe, runs, overrides=overrides, only=stage, signal_when=is_due)
    assert killed.code is None, killed.output
    shutil.rmtree(runs / "store/.encoded")
    again = run_forked(trained.recipe, runs, overrides=overrides, only=stage)
    assert "resumes from" in again.output
    assert hashes(runs, stage) == expected
    assert _encoded(runs)
    assert _encoded(runs) <= kept


def _encoded(runs: Path) -> set[str]:
    """Return the files of encoded rows that are kept: folder, name and sha256 of each."""
    found = (runs / "store/.encoded").glob("*/*")
    paths = (path for path in found if path.is_file() and path.name != "kept.json")
    return {
        f"{path.parent.name}/{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in paths
    }
