"""Which model a stage's policy was trained from, as its artifact tells."""

import json
from pathlib import Path
from typing import Any

from pipeline.stage import StageInput
from pipeline.stages.evaluate import parent_of

TRAINED = {"training_args": {}}


def made(
    store: Path, kind: str, number: int, inputs: dict[str, str], **identity: Any
) -> StageInput:
    """Leave what a stage leaves, and return it as an input of the next one."""
    fingerprint = f"{number:064x}"[::-1]
    folder = store / f"{kind}-{fingerprint[:16]}"
    folder.mkdir(parents=True)
    record = {
        "name": f"old_{kind}",
        "produces": "policy",
        "fingerprint": fingerprint,
        "properties": {"form": "chat"},
        "inputs": inputs,
        "identity": identity,
    }
    (folder / "artifact.json").write_text(json.dumps(record))
    return StageInput(kind, "policy", str(folder), artifact=folder.name)


def fingerprint(number: int) -> str:
    return f"{number:064x}"[::-1]


def test_the_parent_is_the_model_of_the_stage_under_its_name_in_the_recipe(tmp_path: Path) -> None:
    made(tmp_path, "pretrain", 1, {}, model={"architecture": "llama"}, **TRAINED)
    made(tmp_path, "reward_model", 2, {}, model={"artifact": fingerprint(1)}, **TRAINED)
    inputs = {"judge": fingerprint(2), "base": fingerprint(1)}
    sft = made(tmp_path, "sft", 3, inputs, model={"artifact": fingerprint(1)}, **TRAINED)
    parent = parent_of(sft)
    assert parent is not None
    assert (parent.name, parent.properties) == ("base", {"form": "chat"})
    assert Path(parent.path).name == parent.artifact == f"pretrain-{fingerprint(1)[:16]}"
    assert parent_of(parent) is None  # it was trained from nothing


def test_a_merged_adapter_has_the_adapters_parent(tmp_path: Path) -> None:
    hub = {"hub": "owner/model", "revision": "0a1b"}
    made(tmp_path, "dpo", 1, {}, model=hub, **TRAINED)
    merged = made(tmp_path, "merge", 2, {"dpo": fingerprint(1)}, model={"artifact": fingerprint(1)})
    parent = parent_of(merged)
    assert parent is not None
    assert (parent.name, parent.path, parent.revision) == ("owner/model", "owner/model", "0a1b")


def test_what_is_not_known_or_gone_has_no_parent(tmp_path: Path) -> None:
    assert parent_of(StageInput("./model", "policy", str(tmp_path))) is None
    adopted = made(tmp_path, "adopt", 1, {}, model={"folder": "model", "files": {}})
    assert parent_of(adopted) is None
    orphan = made(tmp_path, "sft", 2, {}, model={"artifact": fingerprint(9)}, **TRAINED)
    assert parent_of(orphan) is None
