"""The store: finished stages by fingerprint, unfinished ones, and the locks between runs.

    runs/store/<kind>-<fingerprint>/            a published artifact; `artifact.json` in it is the
    only sign of "done"
    runs/store/.working/<kind>-<fingerprint>/   an unfinished stage: stage.json, out/, checkpoints/,
                                                spending/
    runs/store/.locks/                          one lock per stage, dropped by the kernel when its
    owner dies
    runs/store/.verified/                       what was hashed already (verified_files.py)
    runs/store/.answers/                        what judges behind endpoints said, for all runs
    (reward/judges/cache.py)

Publishing is one rename of `out/`. Nothing here imports torch.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ARTIFACT
from pipeline.files.whole_files import flush, put_in_place
from pipeline.store.fingerprint import SHORT, fingerprint
from pipeline.store.locks import hold
from pipeline.store.manifest import (
    OTHER_CONTENTS,
    describe_files,
    first_extra,
    first_problem,
    read_sealed,
    write_sealed,
)
from pipeline.store.verified_files import find_change

VERIFIED = ".verified"
LOCKS = ".locks"
ANSWERS = ".answers"
_FORMAT = 2
_NAMED = re.compile(rf"[a-z_]+-[0-9a-f]{{{SHORT}}}")
_TEXTS = ("name", "kind", "produces", "fingerprint")
_OBJECTS = ("identity", "inputs", "properties", "metrics", "provenance", "files")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    def spending(self) -> Path:
        """What its judges took so far; whoever starts over has spent it all the same."""
        return self.path / "spending"

    @property
    def request(self) -> Path:
        """What the worker is asked to do."""
        return self.path / "stage.json"

    @property
    def result(self) -> Path:
        """What the worker returns."""
        return self.path / "result.json"

    def drop_checkpoints(self) -> None:
        """Remove them by one rename first: half of them would look like damage to the next run."""
        gone = self.path / "gone"
        drop(gone)
        if self.checkpoints.exists():
            self.checkpoints.rename(gone)
            drop(gone)

    def start_over(self) -> None:
        """Drop what an earlier attempt left."""
        self.drop_checkpoints()
        drop(self.out)
        for folder in (self.out, self.checkpoints):
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

    @property
    def answers(self) -> Path:
        """The folder of judges' answers, there or not."""
        return self.root / ANSWERS

    def folder(self, kind: str, fingerprint: str) -> Path:
        """Return where the artifact of this fingerprint is, or would be."""
        return self.root / folder_name(kind, fingerprint)

    def working(self, kind: str, fingerprint: str) -> Working:
        """Return the working folder of this fingerprint, there or not."""
        return Working(self.root / ".working" / folder_name(kind, fingerprint))

    def find(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return the finished artifact; files that changed since they were hashed are hashed anew.

        Raises CorruptArtifactError when it was finished and is not whole any more.
        """
        folder = self.folder(kind, fingerprint)
        if not is_finished(folder):
            return None
        artifact = read(folder)
        verify(artifact, trusts_record=True)
        return artifact

    def read_manifest(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return what artifact.json says of a finished artifact, its files not looked at."""
        folder = self.folder(kind, fingerprint)
        return _read_manifest(folder) if is_finished(folder) else None

    def artifacts(self) -> Iterator[Artifact]:
        """Yield all finished artifacts."""
        if self.root.is_dir():
            for folder in sorted(self.root.iterdir()):
                if is_finished(folder):
                    yield read(folder)

    def unfinished(self) -> list[Working]:
        """Return the working folders."""
        parent = self.root / ".working"
        return [Working(path) for path in sorted(parent.iterdir())] if parent.is_dir() else []

    def unfinished_identity(self, run_name: str, stage: str) -> Mapping[str, Any] | None:
        """Return the identity of the last attempt at a run's stage that did not come to its end."""
        attempts: list[tuple[int, Mapping[str, Any]]] = []
        for working in self.unfinished():
            try:
                request = json.loads(working.request.read_text(encoding="utf-8"))
                if (request["run"], request["name"]) == (run_name, stage):
                    attempts.append((working.request.stat().st_mtime_ns, request["identity"]))
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                continue  # `prepare` says what is torn
        return max(attempts, key=lambda attempt: attempt[0])[1] if attempts else None

    def publish(self, working: Working, *, record: Mapping[str, Any]) -> Artifact:
        """Make `out/` the artifact of its fingerprint by one rename, then drop the working folder.

        record: the fields of an Artifact except `path` and `files`.
        """
        final = self.folder(record["kind"], record["fingerprint"])
        try:
            files = describe_files(working.out, manifest=ARTIFACT)
        except ValueError as error:
            raise CorruptArtifactError(str(working.out), str(error)) from error
        write_sealed(working.out / ARTIFACT, {"format": _FORMAT, **record, "files": files})
        replaced = working.path / "replaced"  # of a forced rerun: the old one, until all is done
        drop(replaced)
        put_in_place(working.out, final, replaced)
        flush(self.root)
        with suppress(OSError):  # it is published; `clean` removes what cannot go now
            working.drop_checkpoints()
            shutil.rmtree(working.path)
        return read(final)

    def lock(
        self, kind: str, fingerprint: str, *, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[int]:
        """Hold this stage's lock; yields the descriptor, which a child process may inherit.

        on_wait: called with the owner's text while another process holds the lock. The kernel
        drops the lock when the last process holding the descriptor ends, however it ends.
        """
        return hold(self.lock_path(self.folder(kind, fingerprint).name), on_wait=on_wait)

    def lock_path(self, name: str) -> Path:
        """Return the lock file of a folder of the store, or of a run's record."""
        return self.root / LOCKS / f"{name}.lock"


def folder_name(kind: str, fingerprint: str) -> str:
    """Return the name of an artifact's folder; a user's `soup:STAGE` is `soup_stage` there."""
    return f"{re.sub(r'[^a-z_]', '_', kind.lower())}-{fingerprint[:SHORT]}"


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a published artifact, whole or not."""
    return os.path.lexists(folder / ARTIFACT)


def check_finished(folder: Path) -> None:
    """Raise CorruptArtifactError for a folder that is a result's by its name, and holds none."""
    there = folder.resolve()
    if _NAMED.fullmatch(there.name) and not is_finished(there):
        raise CorruptArtifactError(str(there), f"has no {ARTIFACT}: it is not finished", _RERUN)


def read(folder: Path) -> Artifact:
    """Return the artifact in a folder; its files are looked at for presence and size only.

    Raises CorruptArtifactError where one is not there or was not published with it.
    """
    artifact = _read_manifest(folder)
    trouble = first_problem(folder, artifact.files, with_hashes=False)
    if trouble:
        raise CorruptArtifactError(str(folder), trouble, _RERUN)
    extra = first_extra(folder, artifact.files, manifest=ARTIFACT)
    if extra:
        message = "was not published with this result, and may change what is loaded"
        raise CorruptArtifactError(str(folder / extra), message, "move it away")
    return artifact


def read_json(artifact: Artifact, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of an artifact, if what is read is what was published."""
    path = artifact.path / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != artifact.files[name]["sha256"]:
            raise CorruptArtifactError(str(path), OTHER_CONTENTS, _RERUN)
        record = json.loads(content)
    except OSError as error:
        raise CorruptArtifactError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, RecursionError) as error:
        raise CorruptArtifactError(str(path), "is no result of a stage", _RERUN) from error
    if not isinstance(record, dict):
        raise CorruptArtifactError(str(path), "holds no JSON object", _RERUN)
    return cast("dict[str, Any]", record)


def verify(artifact: Artifact, *, trusts_record: bool = False, leaves_out: str = "") -> None:
    """Raise CorruptArtifactError unless every file's sha256 is what was published.

    Reads them all; trusts_record: only those that changed since they were hashed. leaves_out: the
    ending of names that are not looked at.
    """
    folder = artifact.path.resolve()
    is_in_store = (folder.parent / LOCKS).is_dir()  # a copy elsewhere gets nothing put beside it
    record = folder.parent / VERIFIED / f"{folder.name}.json" if is_in_store else None
    trouble = find_change(
        folder,
        artifact.files,
        record=record,
        trusts_record=trusts_record,
        leaves_out=leaves_out,
    )
    if trouble:
        raise CorruptArtifactError(str(artifact.path), trouble, _RERUN)


def _read_manifest(folder: Path) -> Artifact:
    """Return what a folder's artifact.json says, if it is as it was written and belongs there."""
    manifest = folder / ARTIFACT
    try:
        record = read_sealed(manifest)
        if record.pop("format", None) != _FORMAT:
            raise ValueError("was written by another version of posttrain")  # noqa: TRY301
        _check_fields(record)
        artifact = Artifact(path=folder, **record)
        own = fingerprint(artifact.identity)
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise CorruptArtifactError(str(manifest), message, _RERUN) from error
    except ValueError as error:
        raise CorruptArtifactError(str(manifest), str(error), _RERUN) from error
    except (TypeError, RecursionError) as error:
        raise CorruptArtifactError(str(manifest), "is of no result of a stage", _RERUN) from error
    if own != artifact.fingerprint:
        message = f"its fingerprint {artifact.fingerprint[:SHORT]} is not that of its identity"
        raise CorruptArtifactError(str(manifest), message, _RERUN)
    there, name = folder.resolve().name, folder_name(artifact.kind, own)
    if _NAMED.fullmatch(there) and there != name:
        message = f"holds the result {name}, which is not what its name says"
        raise CorruptArtifactError(str(folder), message, _RENAME)
    return artifact


def _check_fields(record: Mapping[str, Any]) -> None:
    """Raise ValueError for a field of another type than is written, or none of that name."""
    inputs, files = record.get("inputs"), record.get("files")
    if (
        not all(isinstance(record.get(name), str) for name in _TEXTS)
        or not all(isinstance(record.get(name), dict) for name in _OBJECTS)
        or not all(isinstance(text, str) for text in cast("dict[str, Any]", inputs).values())
        or not all(_is_described(*entry) for entry in cast("dict[str, Any]", files).items())
    ):
        raise ValueError("is of no result of a stage")


def _is_described(name: str, entry: Any) -> bool:
    """Whether a name is below the folder, and its entry says size and sha256."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not isinstance(entry, dict):
        return False
    size_bytes, digest = (cast("Any", entry).get(key) for key in ("size_bytes", "sha256"))
    is_size = isinstance(size_bytes, int) and not isinstance(size_bytes, bool) and size_bytes >= 0
    return is_size and isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


_RERUN = "delete that folder and run the recipe again to rebuild it"
_RENAME = "give both folders their names back, or delete them and run the recipe again"
