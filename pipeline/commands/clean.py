"""`posttrain clean`: what no run needs any more, found and removed under the locks of the store.

Kept is what a run's record names, the base of an adapter that is kept, what a stage at work or one
that can be resumed is built on, and both of these. A record that cannot be read may name anything,
so then nothing is removed. Encoded rows stay while one of these was made of them, and the folder of
a job while it may still run. What is removed is renamed first: a kill leaves no half of a result.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ARTIFACT, RECORD
from pipeline.files.sizes import tree_bytes
from pipeline.files.whole_files import flush
from pipeline.run.slurm.job_folder import JOBS, JobFolder
from pipeline.store import checkpoints
from pipeline.store.fingerprint import SHORT
from pipeline.store.kept import ENCODED, PARTIAL, lock_path, readers_of
from pipeline.store.locks import hold_if_free, holder_of, try_lock
from pipeline.store.run_record import read_record
from pipeline.store.store import VERIFIED, Store, Working, read
from pipeline.text.amounts import size

REMOVED = ".removed"  # in the store: what is on its way out
_NAME = re.compile(rf"[a-z_]+-[0-9a-f]{{{SHORT}}}")
_DAY_S = 24 * 3600
_PARTIAL = re.compile(r"\..+\.partial")


@dataclass(frozen=True)
class Unused:
    """A folder or file that nothing needs. why: as it is shown."""

    path: Path
    why: str
    kind: Literal["result", "unfinished", "leftover", "encoded", "job"]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files below it."""
        return tree_bytes(self.path)


@dataclass(frozen=True)
class Survey:
    """What can go, and a line for each unfinished stage that stays although no run names it."""

    unused: tuple[Unused, ...]
    kept: tuple[str, ...]


def survey(
    store: Store, *, unfinished: bool, answers: bool = False, encoded: bool = False
) -> Survey:
    """Look at the whole store; nothing is changed.

    unfinished: take stages that could be resumed as well. answers: those of judges, too, which are
    asked anew then. encoded: rows as token ids too, which the next run encodes anew. Raises
    CorruptArtifactError for a record of a run, a stage or an artifact that cannot be read.
    """
    going: list[Unused] = []
    kept: list[str] = []
    needed = _artifacts_in_use(store)
    staying: set[str] = set()  # stages that are not finished, and stay
    for working in store.unfinished():
        owner = holder_of(store.lock_path(working.path.name))
        can_resume = checkpoints.has_any(working.checkpoints)
        if owner is not None:
            kept.append(f"{working.path}: {owner} is at work on it")
        elif can_resume and not unfinished:
            kept.append(f"{working.path}: can be resumed (--unfinished removes it)")
        else:
            why = "unfinished" if can_resume else "unfinished, with nothing to resume from"
            going.append(Unused(working.path, why, "unfinished"))
            continue
        staying.add(working.path.name)
        needed |= _inputs(working)
    needed |= _bases(store, needed)
    for path in _results(store):
        if path.name in needed:
            continue
        owner = holder_of(store.lock_path(path.name))
        if owner is not None:
            kept.append(f"{path}: {owner} is at work on it")
            continue
        why = "no run refers to it" if (path / ARTIFACT).exists() else "half removed"
        going.append(Unused(path, why, "result"))
    if store.answers.is_dir() and not answers:
        much = size(tree_bytes(store.answers))
        kept.append(f"{store.answers}: {much} of judges' answers (--answers removes them)")
    elif store.answers.is_dir():
        going.append(Unused(store.answers, "judges' answers", "leftover"))
    users = needed | staying
    going += _encoded(store, users, kept, is_all=encoded)
    going += _jobs(store, users, kept)
    left = (Unused(path, "left by a killed command", "leftover") for path in _leftovers(store))
    return Survey((*going, *left), tuple(kept))


def remove(store: Store, unused: Unused, *, unfinished: bool) -> str | None:
    """Remove what a survey found; if a run has come to need it since, return why it stays."""
    path = unused.path
    if unused.kind == "leftover":
        return _remove_leftover(path)
    is_encoded = unused.kind == "encoded"
    with hold_if_free(lock_path(path) if is_encoded else store.lock_path(path.name)) as owner:
        if owner is not None:
            return f"{path}: {owner} is at work on it"
        if unused.kind == "unfinished":
            if checkpoints.has_any(path / "checkpoints") and not unfinished:
                return f"{path}: can be resumed by now"
        elif not is_encoded and path.name in _artifacts_in_use(store):
            return f"{path}: a run refers to it by now"
        going = store.root / REMOVED / f"{unused.kind}-{path.name}"
        going.parent.mkdir(exist_ok=True)
        if going.exists():
            shutil.rmtree(going)
        with suppress(FileNotFoundError):  # somebody else has removed it
            if unused.kind == "result":
                _remove_links(store, path.name)  # first: a kill leaves none that leads nowhere
            path.rename(going)
            flush(store.root)
            if unused.kind != "job":
                (store.root / VERIFIED / f"{path.name}.json").unlink(missing_ok=True)
            shutil.rmtree(going)
    with suppress(OSError):
        (store.root / REMOVED).rmdir()
    return None


def _encoded(
    store: Store, users: Collection[str], kept: list[str], *, is_all: bool
) -> Iterator[Unused]:
    """Yield encoded rows that no result in use was made of, or all; add a line for the others.

    users: the results, and the stages that are not finished. What was read or made within a day may
    be of a run whose stages have not begun.
    """
    num_kept = kept_bytes = 0
    for path in sorted((store.root / ENCODED).glob("*")):
        readers, read_s = readers_of(path)
        if is_all or path.name.endswith(PARTIAL):
            yield Unused(path, "encoded rows", "encoded")
        elif readers.isdisjoint(users) and time.time() - read_s > _DAY_S:
            yield Unused(path, "encoded rows that no result in use was made of", "encoded")
        else:
            num_kept, kept_bytes = num_kept + 1, kept_bytes + tree_bytes(path)
    if num_kept:
        much = f"{size(kept_bytes)} of encoded rows (--encoded removes them)"
        kept.append(f"{store.root / ENCODED}: {much}, in {num_kept} folder{'s' * (num_kept > 1)}")


def _jobs(store: Store, users: Collection[str], kept: list[str]) -> Iterator[Unused]:
    """Yield the folders of Slurm's jobs that have ended and whose stages no run refers to.

    A job that has not said how it ended may still wait in a queue.
    """
    for path in sorted((store.root / JOBS).glob("*")):
        folder = JobFolder(path)
        if path.name in users:
            continue
        submitted = folder.submitted()
        if submitted is None and time.time() - path.stat().st_mtime < _DAY_S:
            continue  # it may be about to be submitted
        if submitted is not None and folder.ending() is None:
            number = submitted.number
            kept.append(f"{path}: job {number} has not said how it ended; `scancel {number}` first")
        else:
            yield Unused(path, "of a job that has ended", "job")


def _run_folders(store: Store) -> Iterator[Path]:
    """Yield the folders that a run may have been recorded in."""
    for pattern in ("*", "*/seed-*"):
        for folder in sorted(store.runs.glob(pattern)):
            if folder.is_dir() and not folder.is_relative_to(store.root):
                yield folder


def _artifacts_in_use(store: Store) -> set[str]:
    """Return the names of the artifacts that runs refer to."""
    names: set[str] = set()
    for folder in _run_folders(store):
        record = folder / RECORD
        if os.path.lexists(record):
            names |= _artifacts_of(record)
        else:  # a run that was killed before its record was there; its links are
            links = (path for path in folder.iterdir() if path.is_symlink())
            names |= {path.readlink().name for path in links}
    return names


def _artifacts_of(record: Path) -> set[str]:
    """Return the names of the artifacts that a run.json refers to."""
    return {Path(stage["path"]).name for stage in read_record(record)["stages"].values()}


def _inputs(working: Working) -> set[str]:
    """Return the names of the artifacts that an unfinished stage is built on."""
    if not working.request.exists():  # it has just begun, or never did
        return set()
    try:
        outputs = json.loads(working.request.read_text(encoding="utf-8"))["outputs"]
        return {str(source["artifact"]) for source in outputs.values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        hint = "so what it is built on is not known; --unfinished removes it"
        where = str(working.request)
        raise CorruptArtifactError(where, "is no request for a stage", hint) from error


def _bases(store: Store, names: Iterable[str]) -> set[str]:
    """Return the names of the models below adapters among some artifacts, and below those."""
    bases: set[str] = set()
    left = [name for name in names if (store.root / name / ARTIFACT).exists()]
    while left:
        base = read(store.root / left.pop()).properties.get("base_artifact")
        if base is not None and base not in bases:
            bases.add(base)
            left += [base] if (store.root / base / ARTIFACT).exists() else []
    return bases


def _results(store: Store) -> list[Path]:
    """Return the folders of finished stages; what else lies in the store is nobody's to remove."""
    if not store.root.is_dir():
        return []
    paths = (path for path in store.root.iterdir() if _NAME.fullmatch(path.name))
    return sorted(path for path in paths if path.is_dir() and not path.is_symlink())


def _leftovers(store: Store) -> Iterator[Path]:
    """Yield what killed commands left: half-written files, and what was on its way out."""
    removed = store.root / REMOVED
    if removed.is_dir():
        yield from sorted(removed.iterdir())
    runs = [folder for folder in _run_folders(store) if (folder / RECORD).exists()]
    for folder in (*runs, *store.runs.glob("*/seeds"), *store.runs.glob("compare")):
        for path in sorted(folder.iterdir()):
            if _PARTIAL.fullmatch(path.name) and (path.is_symlink() or holder_of(path) is None):
                yield path


def _remove_leftover(path: Path) -> str | None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not try_lock(descriptor, path):
            return f"{path}: another process is at it"
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return None


def _remove_links(store: Store, name: str) -> None:
    """Remove the links of runs to an artifact that goes: stages their recipes have no more."""
    for folder in _run_folders(store):
        for path in folder.iterdir():
            if path.is_symlink() and path.readlink().name == name:
                path.unlink(missing_ok=True)
