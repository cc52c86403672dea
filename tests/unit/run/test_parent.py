"""Which model a stage's policy was trained from, as its artifact tells."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CorruptArtifactError
from pipeline.run.fingerprint import fingerprint
from pipeline.run.lineage import as_input, parent_of
from pipeline.run.store import Artifact, Store
from pipeline.stage import StageInput

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
