"""What is kept for other runs counts only while it is whole."""

import os
import time
from pathlib import Path

import pytest

from pipeline.commands.clean import remove, survey
from pipeline.errors import PosttrainError
from pipeline.run.slurm.job_folder import JOBS, Ending, JobFolder, Submitted
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


def test_clean_removes_encoded_rows_once_no_result_in_use_was_made_of_them(folder: Path):
    """Not what was read within a day: a run's stages may not have begun."""
    paths = {
        name: find_or_make(folder, {"of": name}, _make, reader=reader).path
        for name, reader in (
            ("of a result", "sft-0123456789abcdef"),
            ("of nothing", "sft-1111111111111111"),
            ("of a stage that can be resumed", "dpo-2222222222222222"),
            ("read today", "dpo-3333333333333333"),
            ("of no reader", None),
        )
    }
    store = Store(folder.parents[1])
    run = store.runs / "tiny"
    run.mkdir()
    (run / "sft").symlink_to(store.root / "sft-0123456789abcdef")
    step = store.working("dpo", "2" * 64).checkpoints / "checkpoint-1"
    step.mkdir(parents=True)
    (step / "MANIFEST.json").write_text("{}")
    assert not survey(store, unfinished=False).unused, "all were made today"
    long_ago_s = time.time() - 90_000
    for name, path in paths.items():
        if name != "read today":
            for each in (path, *(path / "read_by").glob("*")):
                os.utime(each, (long_ago_s, long_ago_s))
    assert find(folder, {"of": "of nothing"}) is not None, "the note of a reader changes nothing"
    found = survey(store, unfinished=False)
    gone = {unused.path for unused in found.unused}
    assert gone == {paths["of nothing"], paths["of no reader"]}
    assert "in 3 folders" in found.kept[-1]
    for unused in found.unused:
        assert remove(store, unused, unfinished=False) is None
    assert {path for path in paths.values() if path.exists()} == {*paths.values()} - gone
    assert find(folder, {"of": "of nothing"}, reader="sft-0123456789abcdef") is None


def test_clean_removes_the_folders_of_jobs_that_have_ended_and_no_run_names(tmp_path: Path):
    store = Store(tmp_path / "runs")
    run = store.runs / "tiny"
    run.mkdir(parents=True)
    ended, in_use, queued, fresh = (
        JobFolder(store.root / JOBS / f"sft-{digit * 16}") for digit in "1234"
    )
    for job in (ended, in_use, queued, fresh):
        job.path.mkdir(parents=True)
    for job in (ended, in_use, queued):
        job.note_submitted(Submitted("17"))
    for job in (ended, in_use):
        job.end(Ending(status="ran"))
    (run / "sft").symlink_to(store.root / in_use.path.name)
    found = survey(store, unfinished=False)
    assert [unused.path for unused in found.unused] == [ended.path]
    assert "job 17 has not said how it ended; `scancel 17` first" in found.kept[-1]
    with hold(store.lock_path(ended.path.name)):
        stays = remove(store, found.unused[0], unfinished=False)
    assert stays is not None
    assert remove(store, found.unused[0], unfinished=False) is None
    assert sorted((store.root / JOBS).iterdir()) == [in_use.path, queued.path, fresh.path]
