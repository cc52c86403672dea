"""Rows that stages made, exported as a data set: its card, as the hub reads it back, uploaded."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import load_dataset

from pipeline.config.blocks import DataBlock
from pipeline.config.field_types import DataForm
from pipeline.config.references import Places
from pipeline.data.reading.data_blocks import read_records
from tests.command import Command
from tests.hub import Hub
from tests.made_rows import rows_of


@pytest.fixture
def folder(made_folder: Path) -> Path:
    return made_folder


def test_rows_are_exported_as_a_data_set_that_datasets_loads(
    folder: Path, tmp_path: Path, posttrain: Command
) -> None:
    out = tmp_path / "out"
    said = posttrain("export", "tiny.yaml", "pairs", str(out))
    assert said.code == 0, said.err
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "README.md",
        "posttrain.json",
        "data/train.jsonl",
    }
    loaded = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert [dict(row) for row in loaded] == [
        {**dict.fromkeys(loaded.column_names), **row} for row in rows_of(folder, "pairs")
    ]
    card = (out / "README.md").read_text()
    assert f"{len(loaded)} rows" in card
    assert re.search(r"sampled \| generate \|.*num_samples: 4; temperature: 0.7", card)
    assert "reward: mine:vowels; pairs: best_worst, margin 0" in card
    assert str(folder) not in card + (out / "posttrain.json").read_text()
    again = posttrain("export", "tiny.yaml", "pairs", str(out))
    assert (again.code, "--force" in again.err) == (2, True)
    wrong = posttrain("export", "tiny.yaml", "pairs", str(tmp_path / "other"), "--gguf", "f16")
    assert "--gguf: is for models, and `pairs` makes rows" in wrong.err


@pytest.mark.parametrize(
    ("stage", "forms"),
    [
        ("pairs", ("preference",)),
        ("thumbs", ("unpaired_preference",)),
        ("best", ("prompt_completion", "chat")),
        ("scored", ("prompt_completion", "chat")),
        ("sampled", ("prompt",)),
    ],
)
def test_exported_rows_are_read_from_the_hub_as_the_stage_made_them(
    folder: Path,
    tmp_path: Path,
    posttrain: Command,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    forms: tuple[DataForm, ...],
) -> None:
    out = tmp_path / "out"
    assert posttrain("export", "tiny.yaml", stage, str(out)).code == 0

    def load(name: str, subset: str | None, *, split: str, revision: str | None) -> Any:
        assert (name, subset, revision) == ("ann/rows", None, None)
        return load_dataset(str(out), split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    places = Places(folder, made={stage: folder / "runs/tiny" / stage})
    blocks: list[dict[str, Any]] = [
        {"stage": f"${stage}"},
        {"hub": "ann/rows"},
        {"file": str(out / "data/train.jsonl")},
    ]
    made, from_hub, from_file = (
        [_said(row) for row in read_records(DataBlock.model_validate(block), places, forms)]
        for block in blocks
    )
    assert len(made) > 8
    assert from_hub == made
    assert from_file == made


def _said(row: Any) -> Any:
    """Return a record without where it stands, and what is null in it for want of a value."""
    fields = asdict(row)
    for each in (fields, fields.get("answered") or {}):
        for name in ("where", "source"):
            each.pop(name, None)
    columns = fields.get("columns")
    if columns is not None:
        fields["columns"] = {k: v for k, v in columns.items() if v is not None and k != "source"}
    return fields


def test_rows_are_uploaded_as_a_data_set(
    folder: Path, tmp_path: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    said = posttrain("export", "tiny.yaml", "best", str(tmp_path / "out"), "--push", "ann/best")
    assert said.code == 0, said.err
    assert hub.kinds == ["dataset", "dataset"]
    assert 'load_dataset("ann/best"' in (tmp_path / "out" / "README.md").read_text()
