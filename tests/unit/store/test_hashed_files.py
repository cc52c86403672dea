"""A big file is hashed once, and again when it has changed."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.store import hashed_files
from pipeline.store.hashed_files import HashedFiles
from pipeline.store.verified_files import SETTLED_NS


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as big, written a while ago as far as the clock says."""
    monkeypatch.setattr(hashed_files, "BIG_BYTES", 10)
    later_ns = time.time_ns() + 10 * SETTLED_NS
    monkeypatch.setattr("time.time_ns", lambda: later_ns)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"0123456789" * 3)
    return path


def _digests_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []

    def note(path: Path) -> str:
        read.append(path)
        return sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(hashed_files, "sha256_file", note)
    return read


def test_a_big_file_is_read_once_by_all_plans(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = _digests_read(monkeypatch)
    digests = {HashedFiles(tmp_path / ".verified").sha256(big) for _ in range(3)}
    assert digests == {sha256(big.read_bytes()).hexdigest()}
    assert read == [big]


def test_a_file_changed_behind_its_size_and_mtime_is_seen(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = HashedFiles(tmp_path / ".verified").sha256(big)
    state = big.stat()
    big.write_bytes(b"9876543210" * 3)
    os.utime(big, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = HashedFiles(tmp_path / ".verified").sha256(big)
    assert again == sha256(big.read_bytes()).hexdigest() != first


def test_what_has_just_been_written_and_a_torn_record_are_not_believed(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = _digests_read(monkeypatch)
    folder = tmp_path / ".verified"
    folder.mkdir()
    (folder / "sources.json").write_text('{"x": ')
    HashedFiles(folder).sha256(big)
    HashedFiles(folder).sha256(big)
    assert len(read) == 1
    now_ns = big.stat().st_mtime_ns + SETTLED_NS // 2
    monkeypatch.setattr("time.time_ns", lambda: now_ns)
    (folder / "sources.json").unlink()
    for _ in range(2):
        HashedFiles(folder).sha256(big)
    assert len(read) == 3
