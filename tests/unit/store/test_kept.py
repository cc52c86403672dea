"""What is kept for other runs counts only while it is whole."""

from pathlib import Path

import pytest

from pipeline.commands.clean import remove, survey
from pipeline.errors import PosttrainError
from pipeline.store.kept import ENCODED, find, find_or_make, lock_path
from pipeline.store.locks import hold
from pipeline.store.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Store(tmp_path / "runs").root / ENCODED


def _make(path: Path) -> dict[str, object]:
    (path / "rows.bin").write_bytes(b"0123456789" * 100)
    return {"rows": 100}


def _refuse(_: Path) -> dict[str, object]:
    raise AssertionError("it is there")


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _changed(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def _gone(path: Path) -> None:
    path.unlink()


def test_what_is_kept_is_not_made_again(folder: Path):
    made = find_or_make(folder, {"of": 1}, _make)
    again = find_or_make(folder, {"of": 1}, _refuse)
    assert (again, again.notes) == (made, {"rows": 100})
    assert find(folder, {"of": 2}) is None


@pytest.mark.parametrize("name", ["rows.bin", "kept.json"])
@pytest.mark.parametrize("spoil", [_torn, _changed, _gone])
def test_what_is_not_whole_is_made_anew(folder: Path, name: str, spoil):
    path = find_or_make(folder, {"of": 1}, _make).path
    spoil(path / name)
    assert find(folder, {"of": 1}) is None
    assert find_or_make(folder, {"of": 1}, _make).path == path
    assert (path / "rows.bin").read_bytes() == b"0123456789" * 100


def test_what_could_not_be_made_leaves_nothing(folder: Path):
    def fail(path: Path) -> dict[str, object]:
        (path / "half").write_bytes(b"x")
        raise PosttrainError("row 3", "is wrong")

    with pytest.raises(PosttrainError):
        find_or_make(folder, {"of": 1}, fail)
    assert not list(folder.iterdir())


def test_clean_tells_of_kept_rows_and_removes_them_when_told(folder: Path):
    path = find_or_make(folder, {"of": 1}, _make).path
    partial = path.with_name(f"{'0' * 64}.partial")
    partial.mkdir()
    store = Store(folder.parents[1])
    kept = survey(store, unfinished=False)
    assert [unused.path for unused in kept.unused] == [partial]
    assert "of encoded rows (--encoded removes them)" in kept.kept[0]
    with hold(lock_path(partial)):
        stays = remove(store, kept.unused[0], unfinished=False)
    assert stays is not None
    assert "is at work on it" in stays
    for unused in survey(store, unfinished=False, encoded=True).unused:
        assert unused.path == partial or unused.size_bytes > 1000
        assert remove(store, unused, unfinished=False) is None
    assert not list(folder.iterdir())
