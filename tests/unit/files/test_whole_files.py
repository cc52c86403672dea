"""A file appears whole or not at all, whoever else writes it, and what a killed writer left."""

import os
from pathlib import Path

import pytest

from pipeline.files.whole_files import write_whole


def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".a.json.partial").write_text("half of a longer text")
    write_whole(tmp_path / "a.json", "whole")
    assert (tmp_path / "a.json").read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_text_that_cannot_be_encoded_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.json", "\ud800")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_of_one_file_come_one_after_the_other(tmp_path: Path) -> None:
    """Without the lock one of them renames the file that the other has just renamed."""
    path, children = tmp_path / "a.json", []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(50):
                    write_whole(path, str(number) * 2000)
            except BaseException:  # noqa: BLE001  a child must not run the parent's tests
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert path.read_text() in {str(number) * 2000 for number in range(4)}
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
