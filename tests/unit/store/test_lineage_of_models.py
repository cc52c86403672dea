"""Which model a stage's policy was trained from and which lies below it, as its artifact tells."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.references import LocalModel, adapter_base
from pipeline.config.stage import StageInput
from pipeline.errors import CorruptArtifactError
from pipeline.store.fingerprint import fingerprint
from pipeline.store.lineage import as_input, parent_of, verify_closure
from pipeline.store.manifest import sha256_file
from pipeline.store.store import Artifact, Store, read

TRAINED = {"training_args": {}}


def made(runs: Path, kind: str, inputs: dict[str, str], **identity: Any) -> Artifact:
    """Publish what a stage of this identity would have made."""
    store, key = Store(runs), fingerprint(identity)
    working = store.working(kind, key)
    working.start_over()
    (working.out / "model.safetensors").write_text(kind)
    record = {"name": f"old_{kind}", "kind": kind, "produces": "policy", "fingerprint": key}
    record |= {"identity": identity, "inputs": inputs, "properties": {"form": "chat"}}
    return store.publish(working, record={**record, "metrics": {}, "provenance": {}})


def test_the_parent_is_the_model_of_the_stage_under_its_name_in_the_recipe(tmp_path: Path) -> None:
    base = made(tmp_path, "pretrain", {}, model={"architecture": "llama"}, **TRAINED)
    below = {"artifact": base.fingerprint}
    judge = made(tmp_path, "reward_model", {}, model=below, version=1, **TRAINED)
    inputs = {"judge": judge.fingerprint, "base": base.fingerprint}
    sft = made(tmp_path, "sft", inputs, model=below, **TRAINED)
    parent = parent_of(as_input(sft, "sft"))
    assert parent is not None
    assert (parent.name, parent.properties) == ("base", {"form": "chat"})
    assert Path(parent.path).name == parent.artifact == base.path.name
    assert parent_of(parent) is None  # it was trained from nothing


def test_a_parent_that_is_not_as_it_was_published_is_named(tmp_path: Path) -> None:
    base = made(tmp_path, "pretrain", {}, model={"architecture": "llama"}, **TRAINED)
    inputs = {"base": base.fingerprint}
    sft = made(tmp_path, "sft", inputs, model={"artifact": base.fingerprint}, **TRAINED)
    (base.path / "model.safetensors").write_text("PRETRAIN")
    with pytest.raises(CorruptArtifactError, match=r"model\.safetensors has other contents"):
        parent_of(as_input(sft, "sft"))


def test_a_merged_adapter_has_the_adapters_parent(tmp_path: Path) -> None:
    hub = {"hub": "owner/model", "revision": "0a1b"}
    dpo = made(tmp_path, "dpo", {}, model=hub, **TRAINED)
    inputs = {"dpo": dpo.fingerprint}
    merged = made(tmp_path, "merge", inputs, model={"artifact": dpo.fingerprint})
    parent = parent_of(as_input(merged, "merged"))
    assert parent is not None
    assert (parent.name, parent.path, parent.revision) == ("owner/model", "owner/model", "0a1b")


def test_what_is_not_known_or_gone_has_no_parent(tmp_path: Path) -> None:
    assert parent_of(StageInput("./model", "policy", str(tmp_path))) is None
    adopted = made(tmp_path, "adopt", {}, model={"folder": "model", "files": {}})
    assert parent_of(as_input(adopted, "adopted")) is None
    orphan = made(tmp_path, "sft", {}, model={"artifact": "9a" * 32}, **TRAINED)
    assert parent_of(as_input(orphan, "orphan")) is None


def _adapter_of_a_folder(project: Path) -> Artifact:
    """Publish an adapter of a model that lies in a folder beside runs/."""
    base = project / "models" / "small"
    base.mkdir(parents=True)
    (base / "model.safetensors").write_text("weights")
    files = {"model.safetensors": sha256_file(base / "model.safetensors")}
    identity = {"model": {"folder": "small", "files": files}, **TRAINED}
    store, key = Store(project / "runs"), fingerprint(identity)
    working = store.working("sft", key)
    working.start_over()
    (working.out / "adapter_config.json").write_text('{"base_model_name_or_path": "small"}')
    ways = ["../../../models/small", str(base)]
    record = {"name": "sft", "kind": "sft", "produces": "policy", "fingerprint": key}
    record |= {"identity": identity, "inputs": {}, "metrics": {}, "provenance": {}}
    properties = {"adapter": True, "base_folder": ways}
    return store.publish(working, record={**record, "properties": properties})


@pytest.mark.parametrize("moved", ["the project", "runs alone"])
def test_an_adapter_finds_the_folder_below_it_after_a_move(tmp_path: Path, moved: str) -> None:
    artifact = _adapter_of_a_folder(tmp_path / "here")
    if moved == "the project":
        (tmp_path / "here").rename(tmp_path / "there")
    else:
        (tmp_path / "there").mkdir()
        (tmp_path / "here" / "runs").rename(tmp_path / "there" / "runs")
    folder = tmp_path / "there/runs/store" / artifact.path.name
    base = adapter_base(folder)
    assert isinstance(base, LocalModel)
    assert (base.path / "model.safetensors").read_text() == "weights"
    (tmp_path / "link").symlink_to(folder)  # as runs/<recipe>/<stage> is one
    assert adapter_base(tmp_path / "link") == base
    verify_closure(read(folder))


@pytest.mark.parametrize(
    ("file", "said"),
    [("model.safetensors", "other contents"), ("adapter_config.json", "is new in it")],
)
def test_a_folder_below_an_adapter_that_has_changed_is_named(
    tmp_path: Path, file: str, said: str
) -> None:
    artifact = _adapter_of_a_folder(tmp_path)
    (tmp_path / "models/small" / file).write_text("WEIGHTS")
    with pytest.raises(CorruptArtifactError, match=rf"small.*has changed since: {file} .*{said}"):
        verify_closure(artifact)
