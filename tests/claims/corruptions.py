"""G3: whatever is corrupt is named, or passed over aloud for the checkpoint before it.

A case changes one thing of a store that a run has left (a file of a result, of a checkpoint, a
record, two folders, an added file) and has a command use it. It must leave with exit code 4 and
name the file, whichever command; a stage that was stopped may instead go on from an older
checkpoint, and must then end in the same bytes as one that never stopped.
"""

from __future__ import annotations

import random as randoms
import shutil
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from pipeline.files.names import ARTIFACT, MANIFEST
from tests.claims.claim import Case, Claim, Outcome, fails
from tests.claims.corrupted_store import (
    CHANGES,
    CHECKPOINT,
    FILES,
    OF_MODELS,
    READERS,
    Said,
    call,
    checkpoints_of,
    copy_store,
    hide,
    prepared,
    put,
    read_by,
)
from tests.kills import hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from random import Random

_ALL = ("plan", "next stage", "report", "export")  # they look at every result of the recipe
_ALSO = {  # names that libraries load when they are there
    "base": ("adapter_config.json", "model.safetensors.index.json", "added_tokens.json"),
    "lora": ("config.json", "generation_config.json", "special_tokens_map.json"),
    "tokenizer": ("chat_template.json", "additional_chat_templates/tool_use.jinja"),
}
_SWAPS = (("base", "lora"), ("tokenizer", "base"), ("asked", "compared"), ("lora", "tokenizer"))
_RECORDS = (b"", b"[]", b"{}", b"null", b"\0" * 300, b'{"stages": [1]}', b'{"stages": {"a": 1}}')
_RECORD_READERS = (
    ("plan", "RECIPE"),
    ("status", "RECIPE"),
    ("why", "RECIPE", "merged"),
    ("report", "runs/tiny"),
    ("clean",),
)


def cases(random: Random, times: int) -> Sequence[Case]:
    """Return every kind of corruption; who reads it and where a bit flips is drawn."""
    found: list[Case] = [
        Case("every file is tried", _every_file_is_tried),
        *(Case(f"untouched, {reader}", partial(_untouched, reader)) for reader in READERS),
    ]
    for number in range(times):
        for name, attempt in (*_of_results(random), *_of_manifests(random), *_of_stopped(random)):
            found.append(Case(name if number == 0 else f"{name}, time {number + 1}", attempt))
    found += [Case(*each) for each in (*_of_folders(random), *_of_records(), *_of_logs())]
    return found


def _of_results(random: Random) -> Iterator[tuple[str, partial[Outcome]]]:
    for stage, names in FILES.items():
        for name in names:
            for change in (*CHANGES, "of another result"):
                readers = (*_ALL, *(OF_MODELS if stage in ("base", "lora") else ()))
                reader, seed = random.choice(readers), random.getrandbits(32)
                yield (
                    f"{stage}/{name} {change}, {reader}",
                    partial(_file, stage, name, change, reader, seed),
                )
            unseen = OF_MODELS if stage in ("base", "lora") else ("report",)
            for reader in random.sample(unseen, min(2, len(unseen))):
                seed = random.getrandbits(32)
                yield (
                    f"{stage}/{name} changed unseen, {reader}",
                    partial(_unseen, stage, name, reader, seed),
                )


def _of_logs() -> Iterator[tuple[str, partial[Outcome]]]:
    """What libraries say is nothing as a rule: such a file can only be missing, or not be empty."""
    for stage, reader in product(("base", "lora"), ("plan", "chat", "export")):
        yield (
            f"{stage}/log.txt missing, {reader}",
            partial(_file, stage, "log.txt", "missing", reader, 0),
        )


def _of_manifests(random: Random) -> Iterator[tuple[str, partial[Outcome]]]:
    for stage in FILES:
        flips = [f"bit {number} flipped, same size" for number in range(4, 11)]
        for change in (*CHANGES, *flips, "of another result"):
            readers = (*_ALL, *(OF_MODELS if stage in ("base", "lora") else ()))
            if change == "missing":  # for the rest it has not run: it is run again
                readers = ("chat",) if stage in ("base", "lora") else ()
            if readers:
                reader, seed = random.choice(readers), random.getrandbits(32)
                yield (
                    f"{stage}/{ARTIFACT} {change}, {reader}",
                    partial(_file, stage, ARTIFACT, change, reader, seed),
                )


def _of_folders(random: Random) -> Iterator[tuple[str, partial[Outcome]]]:
    for first, second in _SWAPS:
        for reader in random.sample(_ALL, 2):
            yield f"{first} and {second} swapped, {reader}", partial(_swap, first, second, reader)
    for stage, names in _ALSO.items():
        for name in names:
            readers = (*_ALL, *(OF_MODELS if stage in ("base", "lora") else ()))
            for reader in random.sample(sorted(set(readers)), 2):
                yield f"{stage}/{name} added, {reader}", partial(_added, stage, name, reader)
    for reader in ("chat", "compare"):
        yield f"base is gone, {reader}", partial(_base_gone, reader)


def _of_records() -> Iterator[tuple[str, partial[Outcome]]]:
    for number, content in enumerate(_RECORDS):
        words = _RECORD_READERS[number % len(_RECORD_READERS)]
        yield f"run.json is {content[:24]!r}, {words[0]}", partial(_record, content, words)
    for words in _RECORD_READERS:
        yield f"run.json has a bit flipped, {words[0]}", partial(_record, None, words)


def _of_stopped(random: Random) -> Iterator[tuple[str, partial[Outcome]]]:
    for name in CHECKPOINT:
        num_drawn = 1 if name in FILES["base"] and name != "model.safetensors" else 2
        for change in ("of the step before", *random.sample(sorted(CHANGES), num_drawn)):
            seed = random.getrandbits(32)
            yield f"checkpoint/{name} {change}", partial(_stopped, name, change, seed, 1)
    for name in ("model.safetensors", "optimizer.pt"):
        change, seed = random.choice(sorted(CHANGES)), random.getrandbits(32)
        yield f"both checkpoints/{name} {change}", partial(_stopped, name, change, seed, 2)
    for name in ("out/metrics.jsonl", "stage.json"):
        for change in ("missing", "empty", "cut anywhere", "zero tail, same size"):
            seed = random.getrandbits(32)
            yield f"stopped stage/{name} {change}", partial(_stopped, name, change, seed, 0)
    yield "stopped stage/out/log.txt missing", partial(_stopped, "out/log.txt", "missing", 0, 0)


def _every_file_is_tried(folder: Path) -> Outcome:
    """Hold the lists of names against what a run leaves."""
    runs = prepared().runs
    for stage, names in FILES.items():
        whole = (runs / "tiny" / stage).iterdir()
        there = {path.name for path in whole} - {ARTIFACT}
        if there - {"log.txt"} != set(names):  # empty, unless a library warned of something
            return fails(f"{stage}: {sorted(there ^ set(names))} are not in both")
    there = {path.name for path in checkpoints_of(prepared().stopped)[-1].iterdir()}
    differ = sorted(there ^ set(CHECKPOINT))
    return fails(f"checkpoint: {differ} are not in both") if differ else Outcome()


def _untouched(reader: str, folder: Path) -> Outcome:
    """Every reader must take the store as it is, or its refusals say nothing."""
    said = read_by(reader, copy_store(prepared().runs, folder / "runs"))
    return Outcome() if said.code == 0 else fails(f"left with {said.code}: {said.output[-300:]}")


def _file(stage: str, name: str, change: str, reader: str, seed: int, folder: Path) -> Outcome:
    runs = copy_store(prepared().runs, folder / "runs")
    path = (runs / "tiny" / stage).resolve() / name
    _change(path, change, seed, runs)
    said = read_by(reader, runs)
    names = (path.name, path.parent.name) if name == ARTIFACT else (path.name,)
    return _named(said, next((each for each in names if each in said.output), path.name), reader)


def _unseen(stage: str, name: str, reader: str, seed: int, folder: Path) -> Outcome:
    """Change bytes such that neither size nor times tell: only reading all of them does."""
    runs = copy_store(prepared().runs, folder / "runs")
    path = (runs / "tiny" / stage).resolve() / name
    _change(path, "bit 1 flipped, same size", seed, runs)
    hide(path.parent)
    if name.endswith(".safetensors") and reader == "report":
        return Outcome()  # no page shows weights
    if read_by("plan", runs).code != 0:
        return fails("a look saw it: this case shows nothing")
    hide(path.parent)
    return _named(read_by(reader, runs), path.name, reader)


def _change(path: Path, change: str, seed: int, runs: Path) -> None:
    if change == "of another result":
        others = sorted(runs.glob(f"store/*/{path.name}")) + sorted(runs.glob("store/*/*.json"))
        whole = path.read_bytes()
        put(path, next(c for o in others if (c := o.read_bytes()) != whole))
        return
    change = change if change in CHANGES else "bit 1 flipped, same size"
    content = CHANGES[change](path.read_bytes(), randoms.Random(seed))
    if content is None:
        path.unlink()
    else:
        put(path, content)


def _swap(first: str, second: str, reader: str, folder: Path) -> Outcome:
    runs = copy_store(prepared().runs, folder / "runs")
    one, other = ((runs / "tiny" / stage).resolve() for stage in (first, second))
    one.rename(folder / "between")
    other.rename(one)
    (folder / "between").rename(other)
    said = read_by(reader, runs)
    is_named = one.name in said.output or other.name in said.output
    return _named(said, one.name if is_named else "either folder", reader)


def _added(stage: str, name: str, reader: str, folder: Path) -> Outcome:
    runs = copy_store(prepared().runs, folder / "runs")
    path = (runs / "tiny" / stage).resolve() / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    return _named(read_by(reader, runs), path.name, reader)


def _base_gone(reader: str, folder: Path) -> Outcome:
    runs = copy_store(prepared().runs, folder / "runs")
    base = (runs / "tiny" / "base").resolve()
    shutil.rmtree(base)
    words = READERS[reader]
    if reader == "compare":
        words = ("compare", "runs/tiny/lora", "runs/tiny/asked", "--tasks", "arithmetic")
    return _named(call(words, runs), base.name, reader)


def _record(content: bytes | None, words: tuple[str, ...], folder: Path) -> Outcome:
    runs = copy_store(prepared().runs, folder / "runs")
    path = runs / "tiny" / "run.json"
    if content is None:
        content = CHANGES["bit 1 flipped, same size"](path.read_bytes(), randoms.Random(words[0]))
    put(path, content or b"")
    return _named(call(words, runs), path.name, words[0])


def _stopped(name: str, change: str, seed: int, num_checkpoints: int, folder: Path) -> Outcome:
    """Change what a killed stage left, of so many of its newest checkpoints, and run it again."""
    runs = shutil.copytree(prepared().stopped, folder / "runs", symlinks=True)
    found = checkpoints_of(runs)
    paths = [path / name for path in found[-num_checkpoints:]] if num_checkpoints else []
    for path in paths or [found[0].parents[1] / name]:
        if change == "of the step before":
            put(path, (found[-2] / name).read_bytes())
        else:
            _change(path, change, seed, runs)
    is_same = num_checkpoints == 1 and (found[-1] / name).exists() and _is_same(found, name)
    said = call(("run", "RECIPE", "--until", "base", "--no-report"), runs)
    if said.code != 0:
        return _named(said, name.rpartition("/")[2], "resume")
    if hashes(runs, "base") != hashes(prepared().runs, "base"):
        return fails("went on, and ended in other bytes")
    is_sealed = num_checkpoints and not (name == MANIFEST and change == "missing")
    # Another step's manifest is whole in itself: what is named is a file that it does not fit.
    said_of = f"{found[-1].name}: {'' if name == MANIFEST else name}"
    if is_sealed and not is_same and said_of not in said.output:
        return fails(f"passed over without a word: {said.output[-300:]}")
    return Outcome(labels={"went on from before": 1})


def _is_same(found: list[Path], name: str) -> bool:
    """Whether the newest checkpoint holds what it held: a file that no step changes."""
    original = checkpoints_of(prepared().stopped)[-1] / name
    return (found[-1] / name).read_bytes() == original.read_bytes()


def _named(said: Said, name: str, reader: str) -> Outcome:
    """Hold a command to exit code 4 and one line that names what is corrupt."""
    if said.code == 4 and name in said.output and "Traceback" not in said.output:
        return Outcome(labels={f"refused by {reader}": 1})
    return fails(f"{reader} left with {said.code}: {said.output[-400:].strip()}")


CLAIM = Claim(
    "G3",
    "what is corrupt is named before it is used, or passed over aloud",
    cases,
    least=300,
)
