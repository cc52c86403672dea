"""G10d: what is in artifact.json, run.json or a record of hashes is read as written, or refused.

Drawn are the bytes of real ones with changes, and such with a seal that is right again: whoever
comes by the seal still meets the checks of every field.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ARTIFACT, RECORD
from pipeline.store.fingerprint import fingerprint
from pipeline.store.manifest import write_sealed
from pipeline.store.run_record import read_record
from pipeline.store.store import VERIFIED, Store
from tests.claims.claim import Claim
from tests.claims.fuzzing import Reader, fuzzing_cases, mutate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from tests.claims.claim import Case

Given = tuple[str, bytes, bool]  # which file, its contents, whether the seal was put right again

_IDENTITY = {"stage": "sft", "seed": 3, "model": {"artifact": "ab" * 32}, "rate": 1e-3}
_KEY = fingerprint(_IDENTITY)
_FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 9}
_STAGE = {"kind": "sft", "fingerprint": _KEY, "path": "store/x", "status": "ran", "seconds": 1.5}
_RUN = {"name": "r", "recipe": "/r.yaml", "seed": 3, "stages": {"sft": {**_STAGE, "metrics": {}}}}
_TOKENS = (
    *(
        b"null",
        b"[]",
        b"{}",
        b'""',
        b"-1",
        b"1e999",
        b"NaN",
        b'"..',
        b"/",
        b"\0",
        b"\xff",
        b"[" * 999,
    ),
    *(b'"sha256": ', b'"files": ', b'"format": 2', b'"kind": ', b'"size_bytes": ', b",\n", b"true"),
    *(b"9" * 5000, b'"\\ud800"', b'"../../x": ', b'{"size_bytes": 0, "sha256": ""}'),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "x", "../x", "/x", [], [1], {}, {"": 1}, {"a": {}}),
    *({"x": {"size_bytes": 1, "sha256": "ab" * 32}}, {"x": [1]}, {"..": {}}, {"sft": {"kind": 1}}),
)


def draw(random: Random) -> Given:
    """Return one of the three files, changed; half of those with a seal have one that is right."""
    which = random.choice((ARTIFACT, ARTIFACT, RECORD, VERIFIED))
    fields = {ARTIFACT: _record(), RECORD: _RUN}.get(which)
    if fields is None:
        seen = {name: [len(each), 1, 1, 1, "ab"] for name, each in _FILES.items()}
        return which, mutate(random, json.dumps(seen).encode(), _TOKENS), False
    if random.random() < 0.3:
        changed = dict(fields)
        for _ in range(random.randint(1, 3)):
            changed[random.choice([*changed, "more"])] = random.choice(_VALUES)
        return which, _sealed(json.dumps(changed, indent=1).encode()), True
    content = json.dumps(fields, indent=1).encode()
    if random.random() < 0.5:
        return which, _sealed(mutate(random, content, _TOKENS)), True
    whole = _sealed(content)
    changed = mutate(random, whole, _TOKENS)
    return which, changed, changed == whole


def read(given: Given, folder: Path) -> str | None:
    """Read a store in which one of the three files is the given one."""
    which, content, is_sealed = given
    store = Store(folder)
    artifact = store.folder("sft", _KEY)
    if not artifact.exists():
        _publish(store)
    place = {RECORD: folder / RECORD, VERIFIED: store.root / VERIFIED / f"{artifact.name}.json"}
    path = place.get(which, artifact / ARTIFACT)
    whole = path.read_bytes() if path.exists() else b""
    path.parent.mkdir(exist_ok=True)
    _put(path, content)
    try:
        if which == RECORD:
            record = read_record(path)
            assert all(isinstance(each["path"], str) for each in record["stages"].values())
        else:
            found = store.find("sft", _KEY)
            assert found is not None
            assert found.fingerprint == _KEY
            assert found.size_bytes >= 0
    finally:
        _put(path, whole)
    assert is_sealed or which == VERIFIED, "taken, although it was changed"
    return f"{which} taken"


def _put(path: Path, content: bytes) -> None:
    """Write a new file: ext4 flushes one that is emptied and filled again."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _record() -> dict[str, Any]:
    described = {
        name: {"size_bytes": len(each), "sha256": hashlib.sha256(each).hexdigest()}
        for name, each in _FILES.items()
    }
    record = {"format": 2, "name": "sft", "kind": "sft", "produces": "policy", "inputs": {}}
    record |= {"fingerprint": _KEY, "identity": _IDENTITY, "properties": {"form": "chat"}}
    return {**record, "metrics": {"loss": 1.5}, "provenance": {"exact": True}, "files": described}


def _sealed(content: bytes) -> bytes:
    body = content.removesuffix(b"\n}")
    digest = hashlib.sha256(body).hexdigest()
    return body + f',\n "sha256": "{digest}"\n}}\n'.encode()


def _publish(store: Store) -> None:
    folder = store.folder("sft", _KEY)
    folder.mkdir(parents=True)
    (store.root / ".locks").mkdir()
    for name, content in _FILES.items():
        _put(folder / name, content)
    write_sealed(folder / ARTIFACT, _record())
    assert store.find("sft", _KEY) is not None


READER = Reader(draw, read, (CorruptArtifactError,))


def cases(random: Random, times: int) -> Sequence[Case]:
    """Return one processor minute of drawn files."""
    return fuzzing_cases(READER, random, times)


CLAIM = Claim(
    "G10d",
    "artifact.json, run.json and what was hashed are read as written, or refused",
    cases,
    least=20_000,
)
