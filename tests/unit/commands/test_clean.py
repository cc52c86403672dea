"""`posttrain clean` removes what nothing needs, and nothing else: not under a run, not by guess."""

import fcntl
import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.commands.clean import remove, survey
from pipeline.errors import CorruptArtifactError
from pipeline.recipe.load import load
from pipeline.store.fingerprint import fingerprint
from pipeline.store.manifest import write_json, write_sealed
from pipeline.store.store import Artifact, Store
from tests.command import Command, command


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


def _published(store: Store, kind: str, number: int, **properties: object) -> Artifact:
    identity = {"number": number}
    key = fingerprint(identity)
    working = store.working(kind, key)
    working.start_over()
    (working.out / "model.bin").write_bytes(b"x" * 1000)
    record = {"name": kind, "kind": kind, "produces": "policy", "fingerprint": key}
    record |= {"identity": identity, "inputs": {}, "properties": properties, "metrics": {}}
    return store.publish(working, record={**record, "provenance": {"exact": True, "seconds": 1}})


def _recorded(store: Store, run: str, *artifacts: Artifact) -> Path:
    folder = store.runs / run
    folder.mkdir(parents=True, exist_ok=True)
    stages = {
        f"stage{number}": {
            "kind": each.kind,
            "fingerprint": each.fingerprint,
            "path": str(each.path.relative_to(store.runs)),
            "status": "ran",
            "seconds": 1.0,
            "metrics": {},
        }
        for number, each in enumerate(artifacts)
    }
    record = {"name": run, "recipe": "x.yaml", "seed": 0, "stages": stages}
    write_sealed(folder / "run.json", record)
    return folder / "run.json"


def _unfinished(store: Store, kind: str, number: int, *inputs: Artifact, step: int = 0) -> Path:
    working = store.working(kind, fingerprint({"number": number}))
    working.start_over()
    outputs = {each.name: {"artifact": each.path.name} for each in inputs}
    write_json(working.request, {"outputs": outputs})
    if step:
        folder = working.checkpoints / f"checkpoint-{step}"
        folder.mkdir()
        write_json(folder / "MANIFEST.json", {})
    return working.path


@contextmanager
def _at_work(store: Store, name: str) -> Generator[None]:
    """Hold a stage's lock as another process would."""
    path = store.lock_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        stream.write("process 12 on there")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _clean(store: Store, *, unfinished: bool = False) -> list[str]:
    """Remove what can go; return its names."""
    found = survey(store, unfinished=unfinished)
    stays = [remove(store, each, unfinished=unfinished) for each in found.unused]
    assert stays == [None] * len(stays)
    return [each.path.name for each in found.unused]


def test_what_a_run_needs_stays_down_to_the_base_of_an_adapter(store: Store) -> None:
    base = _published(store, "pretrain", 1)
    adapter = _published(store, "sft", 2, base_artifact=base.path.name)
    unused = _published(store, "sft", 3)
    _recorded(store, "mine", adapter)
    assert _clean(store) == [unused.path.name]
    assert base.path.exists()
    assert adapter.path.exists()
    assert not unused.path.exists()
    assert not (store.root / ".removed").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"stages": [1]}', '{"stages": {"a": {}}}', "{"])
def test_a_record_that_cannot_be_read_removes_nothing(store: Store, content: str) -> None:
    artifact = _published(store, "sft", 1)
    record = _recorded(store, "mine", artifact)
    record.write_text(content)
    with pytest.raises(CorruptArtifactError, match=r"run\.json"):
        survey(store, unfinished=False)


def test_a_run_without_a_record_needs_what_it_links_to(store: Store) -> None:
    artifact = _published(store, "sft", 1)
    _recorded(store, "mine").unlink()
    (store.runs / "mine/sft").symlink_to(f"../store/{artifact.path.name}")
    assert _clean(store) == []


def test_a_stage_that_can_be_resumed_stays_with_what_it_is_built_on(store: Store) -> None:
    base = _published(store, "pretrain", 1)
    stopped = _unfinished(store, "sft", 2, base, step=30)
    begun = _unfinished(store, "dpo", 3)
    assert _clean(store) == [begun.name]
    assert stopped.exists()
    assert base.path.exists()
    assert sorted(_clean(store, unfinished=True)) == [base.path.name, stopped.name]


def test_a_stage_at_work_stays_whatever_is_asked(store: Store) -> None:
    base = _published(store, "pretrain", 1)
    working = _unfinished(store, "ppo", 2, base)
    with _at_work(store, working.name):
        found = survey(store, unfinished=True)
        assert found.unused == ()
        assert found.kept == (f"{working}: process 12 on there is at work on it",)
    assert [each.path for each in survey(store, unfinished=True).unused] == [working, base.path]


def test_what_a_run_came_to_need_after_the_survey_stays(store: Store) -> None:
    artifact, working = _published(store, "sft", 1), _unfinished(store, "dpo", 2)
    first, second = survey(store, unfinished=False).unused
    _recorded(store, "mine", artifact)
    with _at_work(store, working.name):
        assert "is at work" in str(remove(store, first, unfinished=False))
    assert "refers to it by now" in str(remove(store, second, unfinished=False))
    assert artifact.path.exists()
    assert working.exists()


def test_what_is_nobodys_in_the_store_stays(store: Store) -> None:
    artifact = _published(store, "sft", 1)
    (store.root / "notes").mkdir()
    (store.root / "pretrain-0123456789abcdef").symlink_to(artifact.path.name)
    _recorded(store, "mine", artifact)
    assert _clean(store) == []


def test_what_a_killed_writer_left_beside_a_record_goes(store: Store) -> None:
    record = _recorded(store, "mine", _published(store, "sft", 1))
    left = record.with_name(".report.html.partial")
    left.write_text("<html>")
    with left.open() as at_it:
        fcntl.flock(at_it, fcntl.LOCK_EX)
        assert _clean(store) == []
    assert _clean(store) == [left.name]


def test_half_of_what_was_removed_is_found(store: Store) -> None:
    left = store.root / ".removed/result-sft-0123456789abcdef"
    left.mkdir(parents=True)
    (left / "model.bin").write_bytes(b"x" * 10)
    assert _clean(store) == [left.name]
    assert not left.exists()


def test_clean_says_sizes_and_removes_only_when_told(posttrain: Command, store: Store) -> None:
    artifact = _published(store, "sft", 1)
    said = posttrain("clean", "--runs", str(store.runs))
    assert re.search(r"1\.\d kB  .*/store/sft-\w{16}  no run refers to it", said.out)
    assert "would be removed (--yes)" in said.out
    assert artifact.path.exists()
    assert "removed" in posttrain("clean", "--runs", str(store.runs), "--yes").out
    assert not artifact.path.exists()
    assert "nothing to remove" in posttrain("clean", "--runs", str(store.runs)).out


def test_clean_asks_on_a_terminal(store: Store) -> None:
    artifact = _published(store, "sft", 1)
    assert "[y/N]" in _on_a_terminal(store, b"\n")
    assert artifact.path.exists()
    _on_a_terminal(store, b"y\n")
    assert not artifact.path.exists()


def _on_a_terminal(store: Store, typed: bytes) -> str:
    """Return what `posttrain clean` prints on a terminal of its own, where this is typed."""
    import pty

    child, terminal = pty.fork()
    if child == 0:
        import sys

        from pipeline.cli import main

        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "w" if n else "r") for n in (0, 1, 2))
        sys.argv = ["posttrain", "clean", "--runs", str(store.runs)]
        try:
            main()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.write(terminal, typed)
    said = b""
    try:
        while block := os.read(terminal, 4096):
            said += block
    except OSError:  # Linux says the end of a terminal so
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    return said.decode()


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("store", "sft", "1:7: the name `store` is taken"),
        ("Compare", "sft", "1:7: the name `Compare` is taken"),
        ("mine", "run.json", "3:13: the name `run.json` is taken"),
    ],
)
def test_names_of_what_lies_beside_runs_are_refused(
    tmp_path: Path, name: str, stage: str, words: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: {name}\nstages:\n  {stage}: {{stage: tokenizer, data: []}}\n")
    with pytest.raises(Exception, match=re.escape(words)):
        load(path)


def test_a_record_of_other_tools_is_named_and_nothing_is_removed(store: Store) -> None:
    """It may be a damaged one of ours: it is named, and nothing is removed."""
    _published(store, "sft", 1)
    (store.runs / "theirs").mkdir()
    (store.runs / "theirs/run.json").write_text(json.dumps({"id": 3}))
    with pytest.raises(CorruptArtifactError, match="theirs/run"):
        survey(store, unfinished=False)
