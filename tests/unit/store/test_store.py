"""The store: nothing exists until it is whole, and what is not whole any more is said."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ARTIFACT
from pipeline.store import verified_files as verified
from pipeline.store.fingerprint import fingerprint
from pipeline.store.lineage import verify_closure
from pipeline.store.manifest import read_sealed, write_sealed
from pipeline.store.store import Artifact, Store, read, verify

IDENTITY = {"stage": "pretrain"}
KEY = fingerprint(IDENTITY)


def _record() -> dict[str, object]:
    return {
        "name": "base",
        "kind": "pretrain",
        "produces": "policy",
        "fingerprint": KEY,
        "identity": IDENTITY,
        "inputs": {},
        "properties": {},
        "metrics": {"loss": 1.5},
        "provenance": {"seconds": 1.0, "exact": True},
    }


def _published(store: Store, record: dict[str, object] | None = None) -> Artifact:
    record = record or _record()
    working = store.working(str(record["kind"]), str(record["fingerprint"]))
    working.start_over()
    (working.out / "model.safetensors").write_bytes(b"weights" * 1000)
    (working.out / "nested").mkdir()
    (working.out / "nested" / "config.json").write_text("{}")
    return store.publish(working, record=record)


def test_what_is_published_is_found_whole_and_the_working_folder_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("pretrain", KEY) is None
    artifact = _published(store)
    found = store.find("pretrain", KEY)
    assert found == artifact
    assert set(artifact.files) == {"model.safetensors", "nested/config.json"}
    assert artifact.metrics == {"loss": 1.5}
    verify(artifact)
    assert store.unfinished() == []


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "model.safetensors is missing"),
        (lambda path: path.write_bytes(b"cut"), "has 3 bytes instead of 7000"),
        (lambda path: path.write_bytes(b"WEIGHTS" * 1000), "sha256 differs"),
        (_link, "is a link or a folder"),
        (lambda path: path.with_name("adapter_config.json").write_text("{}"), "not published with"),
        (lambda path: (path.parent / "nested/more.jinja").write_text(""), "not published with"),
    ],
)
def test_a_spoilt_artifact_is_named(tmp_path: Path, spoil, said: str) -> None:
    store = Store(tmp_path)
    artifact = _published(store)
    assert store.find("pretrain", KEY) is not None
    spoil(artifact.path / "model.safetensors")
    with pytest.raises(CorruptArtifactError, match=said) as raised:
        store.find("pretrain", KEY)
    assert raised.value.exit_code == 4


def test_what_a_file_browser_leaves_is_not_an_artifacts_fault(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (_published(store).path / ".DS_Store").write_bytes(b"view")
    assert store.find("pretrain", KEY) is not None


def test_a_second_look_reads_nothing_and_a_change_of_any_kind_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "SETTLED_NS", 0)  # files count as old at once
    hashed: list[str] = []
    real = verified.sha256_file
    monkeypatch.setattr(
        verified, "sha256_file", lambda path: hashed.append(path.name) or real(path)
    )
    store = Store(tmp_path)
    with store.lock("pretrain", KEY):
        artifact = _published(store)
    store.find("pretrain", KEY)
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    store.find("pretrain", KEY)
    assert len(hashed) == 2
    verify(artifact)  # before a stage uses it, whatever is recorded
    assert len(hashed) == 4
    weights = artifact.path / "model.safetensors"
    state = weights.stat()
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(CorruptArtifactError, match="sha256 differs"):
        store.find("pretrain", KEY)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model.safetensors": 5}', "\0" * 9])
def test_a_spoilt_record_of_what_was_hashed_only_costs_hashing(
    tmp_path: Path, content: str
) -> None:
    store = Store(tmp_path)
    with store.lock("pretrain", KEY):
        artifact = _published(store)
    record = store.root / ".verified" / f"{artifact.path.name}.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(content)
    assert store.find("pretrain", KEY) == artifact
    (artifact.path / "model.safetensors").write_bytes(b"WEIGHTS" * 1000)
    with pytest.raises(CorruptArtifactError, match="sha256 differs"):
        store.find("pretrain", KEY)


def test_every_flipped_bit_of_a_manifest_is_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = _published(store).path / ARTIFACT
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(CorruptArtifactError, match=r"artifact\.json"):
            store.find("pretrain", KEY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\0" * 40, "is empty"),
        ('{"format": 1, "name"', "cut short"),
        ("[]", "cut short"),
    ],
)
def test_an_unreadable_manifest_is_a_corrupt_artifact(
    tmp_path: Path, content: str, said: str
) -> None:
    store = Store(tmp_path)
    artifact = _published(store)
    (artifact.path / ARTIFACT).write_text(content)
    with pytest.raises(CorruptArtifactError, match=said):
        store.find("pretrain", KEY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"identity": {"stage": "pretrain", "seed": 1}}, "is not that of its identity"),
        ({"files": {"../x": {"size_bytes": 0, "sha256": "ab" * 32}}}, "is of no result"),
        ({"files": {"x": {"size_bytes": "0", "sha256": "ab" * 32}}}, "is of no result"),
        ({"metrics": []}, "is of no result"),
        ({"more": 1}, "is of no result"),
        ({"format": 1}, "another version"),
    ],
)
def test_a_manifest_that_does_not_agree_with_itself_is_corrupt(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    store = Store(tmp_path)
    path = _published(store).path / ARTIFACT
    write_sealed(path, {**read_sealed(path), **change})
    with pytest.raises(CorruptArtifactError, match=said):
        store.find("pretrain", KEY)


def test_a_result_in_another_ones_folder_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ours = _published(store)
    identity = {"stage": "pretrain", "seed": 2}
    record = {**_record(), "identity": identity, "fingerprint": fingerprint(identity)}
    theirs = _published(store, record)
    between = tmp_path / "between"
    ours.path.rename(between)
    theirs.path.rename(ours.path)
    between.rename(theirs.path)
    for each in (ours, theirs):
        with pytest.raises(CorruptArtifactError, match="not what its name says"):
            store.find("pretrain", each.fingerprint)
    shutil.copytree(ours.path, tmp_path / "mine")  # under any other name it may be copied
    assert read(tmp_path / "mine").fingerprint == theirs.fingerprint
    verify(read(tmp_path / "mine"))
    assert not (tmp_path / ".verified").exists()


def test_an_adapter_is_not_whole_when_the_model_below_it_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = _published(store)
    identity = {"stage": "sft", "model": {"artifact": KEY}}
    record = {**_record(), "kind": "sft", "identity": identity}
    record |= {"properties": {"adapter": True, "base_artifact": base.path.name}}
    adapter = _published(store, {**record, "fingerprint": fingerprint(identity)})
    verify_closure(adapter)
    (base.path / "model.safetensors").write_bytes(b"WEIGHTS" * 1000)
    verify(adapter)
    with pytest.raises(CorruptArtifactError, match=rf"{base.path.name}: model.*sha256 differs"):
        verify_closure(adapter)
    shutil.rmtree(base.path)
    with pytest.raises(CorruptArtifactError, match=r"its base model .* is gone"):
        verify_closure(adapter)


def test_a_forced_rerun_replaces_the_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _published(store)
    working = store.working("pretrain", KEY)
    working.start_over()
    (working.out / "other.txt").write_text("new")
    artifact = store.publish(working, record=_record())
    assert set(artifact.files) == {"other.txt"}
    assert not (artifact.path / "model.safetensors").exists()


def test_a_link_in_the_output_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    working = store.working("pretrain", KEY)
    working.start_over()
    (working.out / "weights").symlink_to("/etc/hostname")
    with pytest.raises(CorruptArtifactError, match="symbolic link"):
        store.publish(working, record=_record())
    assert store.find("pretrain", KEY) is None


def _hold(runs: Path, is_held) -> None:
    with Store(runs).lock("pretrain", KEY):
        is_held.set()
        time.sleep(60)


def test_a_lock_waits_for_its_owner_and_is_free_when_the_owner_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    is_held = context.Event()
    owner = context.Process(target=_hold, args=(tmp_path, is_held))
    owner.start()
    assert is_held.wait(20)
    told: list[str] = []

    def kill_owner(text: str) -> None:
        told.append(text)
        os.kill(owner.pid or 0, signal.SIGKILL)

    with Store(tmp_path).lock("pretrain", KEY, on_wait=kill_owner):
        assert set(told) == {f"process {owner.pid} on {os.uname().nodename}"}
    owner.join()


def test_publishing_is_one_rename_at_every_step_before_it_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at every rename, flush and write of the publication: the artifact is whole or absent."""
    real_fsync, real_rename = os.fsync, Path.rename
    calls = {"left": 0}

    def counted(real):
        def call(*arguments):
            if calls["left"] == 0:
                raise KeyboardInterrupt
            calls["left"] -= 1
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", counted(real_fsync))
    monkeypatch.setattr(Path, "rename", counted(real_rename))
    stopped = 0
    for allowed in range(60):
        store = Store(tmp_path / str(allowed))
        calls["left"] = allowed
        try:
            _published(store)
        except KeyboardInterrupt:
            stopped += 1
            calls["left"] = 1000
            found = store.find("pretrain", KEY)
            if found is not None:
                verify(found)
                assert json.loads((found.path / ARTIFACT).read_text())["fingerprint"] == KEY
        else:
            break
    else:
        raise AssertionError("publishing never ended")
    assert stopped >= 6
