"""What a finished stage's model needs beside its own files, and where it came from.

An adapter is nothing without the whole model below it: whoever is about to use a result has both
verified, every byte read. Nothing here imports torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pipeline.config.references import LocalModel, adapter_base
from pipeline.config.stage import StageInput
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.store.manifest import first_extra
from pipeline.store.store import Artifact, is_finished, read, verify
from pipeline.store.verified_files import find_change

# In a model's properties: the folder beside it whose model it is, of a stage that chose one.
TAKEN_FROM = "taken_from"
_ANEW = "run the recipe again to rebuild it"


def verify_closure(artifact: Artifact, *, trusts_record: bool = False) -> None:
    """Raise CorruptArtifactError unless a result, and what lies below an adapter, is as published.

    A model outside of the store is compared with what the adapter's stage was made of; one on the
    hub is not looked at: its commit says what it is. trusts_record: as `verify` takes it.
    """
    verify(artifact, trusts_record=trusts_record)
    below = base_artifact(artifact)
    if below is not None:
        verify(below, trusts_record=trusts_record)
    elif artifact.properties.get("adapter"):
        _verify_outside_base(artifact)


def base_artifact(artifact: Artifact) -> Artifact | None:
    """Return the whole model below an adapter, when a stage made it."""
    sibling = artifact.properties.get("base_artifact")
    if sibling is None:
        return None
    folder = artifact.path.resolve().parent / str(sibling)
    if not is_finished(folder):
        raise CorruptArtifactError(artifact.name, f"its base model {folder} is gone", _ANEW)
    return read(folder)


def parent_of(source: StageInput) -> StageInput | None:
    """Return the model that a stage trained this one from, verified; None if not known or gone.

    It lies beside it in the store, or is a hub model. A merged adapter has the adapter's parent.
    """
    if source.artifact is None:
        return None
    artifact = read(Path(source.path))
    taken_from = artifact.properties.get(TAKEN_FROM)
    if taken_from is not None:
        chosen = artifact.path.resolve().parent / str(taken_from)
        return parent_of(as_input(read(chosen), source.name)) if is_finished(chosen) else None
    model = artifact.identity.get("model")
    if not isinstance(model, dict):
        return None
    described = cast("Mapping[str, Any]", model)
    if "hub" in described:
        return StageInput(
            described["hub"], "policy", described["hub"], revision=described["revision"]
        )
    parent = _sibling(artifact, str(described.get("artifact", "")))
    if parent is None:
        return None
    names = (
        name for name, fingerprint in artifact.inputs.items() if fingerprint == parent.fingerprint
    )
    before = as_input(parent, next(names, parent.name))
    if "training_args" not in artifact.identity:
        return parent_of(before)
    verify_closure(parent)
    return before


def as_input(artifact: Artifact, name: str) -> StageInput:
    """Return an artifact as a stage is handed it."""
    kind: Any = artifact.produces
    path = artifact.path.resolve()
    return StageInput(name, kind, str(path), artifact.properties, artifact=path.name)


def _sibling(artifact: Artifact, fingerprint: str) -> Artifact | None:
    """Return the artifact of a fingerprint that lies beside another one."""
    for path in sorted(artifact.path.resolve().parent.glob("*-*")):
        if fingerprint.startswith(path.name.rpartition("-")[2]) and is_finished(path):
            return read(path)
    return None


def _verify_outside_base(artifact: Artifact) -> None:
    try:
        base = adapter_base(artifact.path)
    except ValueError as error:
        raise PosttrainError(artifact.name, str(error)) from error
    files = next(_outside_files(artifact), None)
    if not isinstance(base, LocalModel) or files is None:
        return
    gone = next((name for name in files if not (base.path / name).is_file()), None)
    described = {name: {"sha256": digest} for name, digest in files.items()}
    trouble = f"{gone} is missing" if gone else None
    trouble = trouble or find_change(base.path, described, record=None, trusts_record=False)
    extra = first_extra(base.path, files, manifest="")
    trouble = trouble or (f"{extra} is new in it" if extra else None)
    if trouble:
        message = f"the model below the adapter `{artifact.name}` has changed since: {trouble}"
        raise CorruptArtifactError(str(base.path), message, "put it back as it was")


def _outside_files(artifact: Artifact) -> Iterator[Mapping[str, str]]:
    """Yield the sha256 of each file of the folder that a chain of adapters began with."""
    below: Artifact | None = artifact
    while below is not None:
        model = below.identity.get("model")
        described = cast("Mapping[str, Any]", model if isinstance(model, dict) else {})
        files = described.get("base", described.get("files"))
        if isinstance(files, dict) and "hub" not in files:
            yield cast("Mapping[str, str]", files)
        below = _sibling(below, str(described["artifact"])) if "artifact" in described else None
