"""The store: nothing exists until it is whole, and what is not whole any more is said."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.errors import CorruptArtifactError
from pipeline.run.store import ARTIFACT, Artifact, Store, verify

KEY = "ab" * 32


def _record() -> dict[str, object]:
    return {
        "name": "base",
        "kind": "pretrain",
        "produces": "policy",
        "fingerprint": KEY,
        "identity": {"stage": "pretrain"},
        "inputs": {},
        "properties": {},
        "metrics": {"loss": 1.5},
        "provenance": {"seconds": 1.0, "exact": True},
    }


def _published(store: Store) -> Artifact:
    working = store.working("pretrain", KEY)
    working.start_over()
    (working.out / "model.safetensors").write_bytes(b"weights" * 1000)
    (working.out / "nested").mkdir()
    (working.out / "nested" / "config.json").write_text("{}")
    return store.publish(working, record=_record())


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


@pytest.mark.parametrize(
    ("spoil", "said", "is_found"),
    [
        (lambda path: path.unlink(), "model.safetensors is missing", False),
        (lambda path: path.write_bytes(b"cut"), "has 3 bytes instead of 7000", False),
        (lambda path: path.write_bytes(b"WEIGHTS" * 1000), "sha256 differs", True),
    ],
)
def test_a_spoilt_artifact_is_named(tmp_path: Path, spoil, said: str, is_found: bool) -> None:
    store = Store(tmp_path)
    artifact = _published(store)
    spoil(artifact.path / "model.safetensors")
    if is_found:  # a lookup reads no contents; whoever builds on it does
        assert store.find("pretrain", KEY) is not None
    with pytest.raises(CorruptArtifactError, match=said) as raised:
        _looked_up(store, artifact)
    assert raised.value.exit_code == 4


def _looked_up(store: Store, artifact: Artifact) -> None:
    store.find("pretrain", KEY)
    verify(artifact)


def test_an_unreadable_manifest_is_a_corrupt_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = _published(store)
    (artifact.path / ARTIFACT).write_text('{"format": 1, "name"')
    with pytest.raises(CorruptArtifactError, match="not readable"):
        store.find("pretrain", KEY)


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
