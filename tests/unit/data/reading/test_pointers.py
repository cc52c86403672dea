"""Data that was not fetched: neither a git-lfs pointer nor the page of a login holds rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.data.reading.files import file_rows
from pipeline.errors import PosttrainError
from pipeline.files.text_files import file_text
from tests.broken_folders import PAGE, POINTER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.json", "a.jsonl.gz", "a.txt"])
def test_a_pointer_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(POINTER)
    with pytest.raises(PosttrainError, match=rf"^{name}: is a git-lfs pointer.*git lfs pull"):
        file_text(path, name) if name.endswith(".txt") else list(file_rows(path, name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.json", "a.jsonl.gz"])
def test_a_web_page_is_named_in_place_of_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("\n" + PAGE)
    with pytest.raises(PosttrainError, match=rf"^{name}: is a web page, not data.*download it"):
        list(file_rows(path, name))


def test_a_web_page_may_be_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PAGE)
    assert file_text(path, "a.txt") == PAGE
