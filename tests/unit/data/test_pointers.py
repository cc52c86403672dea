"""Data that git-lfs has not fetched: a pointer is no row, no text and no Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.data.files import file_rows, file_text
from pipeline.errors import PosttrainError
from tests.broken_folders import POINTER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.json", "a.jsonl.gz", "a.txt"])
def test_a_pointer_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(POINTER)
    with pytest.raises(PosttrainError, match=rf"^{name}: is a git-lfs pointer.*git lfs pull"):
        file_text(path, name) if name.endswith(".txt") else list(file_rows(path, name))
