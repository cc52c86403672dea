"""The store: finished stages by fingerprint, unfinished ones, and the locks between runs.

    runs/store/<kind>-<fingerprint>/            a published artifact; `artifact.json` in it is the
    only sign of "done"
    runs/store/.working/<kind>-<fingerprint>/   an unfinished stage: stage.json, out/, checkpoints/
    runs/store/.locks/                          one lock a stage, dropped by the kernel when its
    owner dies

Publishing is one rename of `out/`. Nothing here imports torch.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import CorruptArtifactError
from pipeline.run.fingerprint import SHORT
from pipeline.run.locks import held
from pipeline.run.manifest import describe_files, first_problem, flush_folder, write_json

ARTIFACT = "artifact.json"
_FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """A finished stage on disk.

    kind: of the stage that made it; `produces` is what it is (policy, tokenizer, ...).
    identity: the payload whose hash is `fingerprint`.
    inputs: fingerprint by the name of the stage it was built on.
    properties: what later stages need to know; metrics: what was measured.
    files: size and sha256 by relative name. provenance: versions, seconds, exactness.
    """

    name: str
    kind: str
    produces: str
    path: Path
    fingerprint: str
    identity: Mapping[str, Any]
    inputs: Mapping[str, str]
    properties: Mapping[str, Any]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(int(entry["size_bytes"]) for entry in self.files.values())


@dataclass(frozen=True)
class Working:
    """The folder of an unfinished stage; its name is stable, so that the next run finds it."""

    path: Path

    @property
    def out(self) -> Path:
        """What will be published."""
        return self.path / "out"

    @property
    def checkpoints(self) -> Path:
        """Training checkpoints."""
        return self.path / "checkpoints"

    @property
    def request(self) -> Path:
        """What the worker is asked to do."""
        return self.path / "stage.json"

    @property
    def result(self) -> Path:
        """What the worker returns."""
        return self.path / "result.json"

    def start_over(self) -> None:
        """Drop what an earlier attempt left."""
        for folder in (self.out, self.checkpoints):
            drop(folder)
            folder.mkdir(parents=True)
        drop(self.result)


def drop(path: Path) -> None:
    """Remove what is there, whatever it is; nothing is fine as well."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Store:
    """The artifacts below one folder."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.root = runs / "store"

    def folder(self, kind: str, fingerprint: str) -> Path:
        """Return where the artifact of this fingerprint is, or would be."""
        return self.root / f"{kind}-{fingerprint[:SHORT]}"

    def working(self, kind: str, fingerprint: str) -> Working:
        """Return the working folder of this fingerprint, there or not."""
        return Working(self.root / ".working" / f"{kind}-{fingerprint[:SHORT]}")

    def find(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return the finished artifact, its files looked at for presence and size only.

        Raises CorruptArtifactError when it was finished and is not whole any more.
        """
        folder = self.folder(kind, fingerprint)
        return read(folder) if (folder / ARTIFACT).exists() else None

    def artifacts(self) -> Iterator[Artifact]:
        """Yield all finished artifacts."""
        if self.root.is_dir():
            for folder in sorted(self.root.iterdir()):
                if (folder / ARTIFACT).exists():
                    yield read(folder)

    def unfinished(self) -> list[Working]:
        """Return the working folders."""
        parent = self.root / ".working"
        return [Working(path) for path in sorted(parent.iterdir())] if parent.is_dir() else []

    def publish(self, working: Working, *, record: Mapping[str, Any]) -> Artifact:
        """Make `out/` the artifact of its fingerprint by one rename, then drop the working folder.

        record: the fields of an Artifact but `path` and `files`.
        """
        final = self.folder(record["kind"], record["fingerprint"])
        try:
            files = describe_files(working.out, manifest=ARTIFACT)
        except ValueError as error:
            raise CorruptArtifactError(str(working.out), str(error)) from error
        write_json(working.out / ARTIFACT, {"format": _FORMAT, **record, "files": files})
        if (
            final.exists()
        ):  # a forced rerun: the old one makes room, and is gone once the new one is there
            replaced = working.path / "replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        working.out.rename(final)
        flush_folder(self.root)
        shutil.rmtree(working.path)
        return read(final)

    def lock(
        self, kind: str, fingerprint: str, *, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[int]:
        """Hold this stage's lock; yields the descriptor, which a child process may inherit.

        on_wait: called with the owner's text while another process holds the lock. The kernel
        drops the lock when the last process holding the descriptor ends, however it ends.
        """
        return held(self.lock_path(self.folder(kind, fingerprint).name), on_wait=on_wait)

    def lock_path(self, name: str) -> Path:
        """Return the lock file of a folder of the store, or of a run's record."""
        return self.root / ".locks" / f"{name}.lock"


def read(folder: Path) -> Artifact:
    """Return the artifact in a folder; its files are looked at for presence and size only."""
    manifest = folder / ARTIFACT
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        if record.pop("format") != _FORMAT:
            raise CorruptArtifactError(
                str(manifest), "it was written by another version of posttrain", _RERUN
            )
        artifact = Artifact(path=folder, **record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(manifest), "it is not readable", _RERUN) from error
    trouble = first_problem(folder, artifact.files, with_hashes=False)
    if trouble:
        raise CorruptArtifactError(str(folder), trouble, _RERUN)
    return artifact


def verify(artifact: Artifact) -> None:
    """Raise CorruptArtifactError unless every file's sha256 is what was published."""
    trouble = first_problem(artifact.path, artifact.files, with_hashes=True)
    if trouble:
        raise CorruptArtifactError(str(artifact.path), trouble, _RERUN)


_RERUN = "delete that folder and run the recipe again to rebuild it"
