"""A stage that streams its rows reads them once: what is kept is trained on, also when resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.forked import run_forked, warm
from tests.kills import hashes
from tests.trained import Trained

OVERRIDES = [
    f"stages.sft.data=[{{hub: me/sums, revision: {'a' * 40}, streaming: true, rows: 60}}]",
    "stages.sft.training_args.save_steps=2",
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a data set of the hub, also in processes that are forked."""
    folder = tmp_path / "hub"
    folder.mkdir()
    rows = [{"prompt": f"{n} + 2 =", "completion": f" {n + 2}"} for n in range(100)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    load = datasets.load_dataset

    def from_folder(name: str, *_: Any, **settings: Any) -> Any:
        assert name == "me/sums"
        assert settings["streaming"]
        with (tmp_path / "asked").open("a") as stream:
            stream.write("x")
        return load(str(folder), split=settings["split"], streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    return folder


def test_a_killed_stage_goes_on_without_the_stream(
    trained: Trained, tmp_path: Path, hub: Path
) -> None:
    warm()
    whole, runs = (trained.copy(tmp_path / name) for name in ("whole", "killed"))
    ended = run_forked(trained.recipe, whole, overrides=OVERRIDES, only="sft")
    assert ended.code == 0, ended.output
    expected = hashes(whole, "sft")
    assert expected != hashes(trained.runs, "sft")

    def is_due(_: float) -> bool:
        found = runs.glob("store/.working/*/out/metrics.jsonl")
        return any(path.read_bytes().count(b"\n") >= 4 for path in found)

    killed = run_forked(trained.recipe, runs, overrides=OVERRIDES, only="sft", signal_when=is_due)
    assert killed.code is None, killed.output
    shutil.rmtree(hub)
    again = run_forked(trained.recipe, runs, overrides=OVERRIDES, only="sft")
    assert "resumes from" in again.output
    assert hashes(runs, "sft") == expected
    assert (tmp_path / "asked").read_text() == "xx"  # once a store
