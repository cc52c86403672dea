"""The writers of G2: what each starts from, what it does, what must never be seen of it.

Prepared once a process: a tiny run (tokenizer, base, an adapter on it), trained for two steps.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import json
import pkgutil
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.files.names import ARTIFACT
from pipeline.run import resume
from pipeline.run.worker import error_path
from pipeline.store import checkpoints
from pipeline.store.checkpoints import Made, seal
from pipeline.store.fingerprint import fingerprint
from pipeline.store.hub_lock import lock_path
from pipeline.store.manifest import first_problem, write_json, write_sealed
from pipeline.store.run_record import read_record
from pipeline.store.staging import put, staging
from pipeline.store.store import Store, Working, read, verify
from tests.conftest import TINY
from tests.forked import run_forked

if TYPE_CHECKING:
    from collections.abc import Callable

_FEW = "max_steps: 4, save_strategy: steps, save_steps: 2, logging_steps: 1, learning_rate: 1e-3"
RECIPE = (
    TINY.replace("logging_steps: 1", "logging_steps: 1, max_steps: 2").split("  sft:")[0]
    + f"""\
  lora: {{stage: sft, model: $base, data: [{{task: arithmetic, rows: 16}}], batch_size: 8,
    lora: {{r: 4}}, training_args: {{max_steps: 2, logging_steps: 1, learning_rate: 1e-3}}}}
  taken: {{stage: adopt, model: ./model}}
  given: {{stage: adopt, model: ./model, form: document}}
  sft: {{stage: sft, model: $base, data: [{{task: arithmetic, rows: 16}}], batch_size: 8,
    training_args: {{{_FEW}}}}}
"""
)
# Not the same in every run: times, durations, process numbers.
_VOLATILE = frozenset({"log.txt", ARTIFACT, "run.json", "stage.json", "report.html"})


@dataclass(frozen=True)
class Writer:
    """begin: makes an empty folder what it starts from. act: writes there; returns an exit code.

    every: of its operations every so many-th is tried, all where it is cheap. done_says: how it
    refuses to do again what a stopped one had finished.
    """

    name: str
    begin: Callable[[Path], None]
    act: Callable[[Path], int]
    every: int = 1
    done_says: str = ""


def half_written(folder: Path) -> list[str]:
    """Return what can be seen as finished below a folder and is not whole."""
    found: list[str] = []
    for manifest in folder.rglob(ARTIFACT):
        if ".working" not in manifest.parts and ".removed" not in manifest.parts:
            try:
                verify(read(manifest.parent))
            except PosttrainError as error:
                found.append(str(error))
    for path in folder.rglob("posttrain.json"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            record = json.loads(path.read_text())
            trouble = first_problem(path.parent, record["files"], with_hashes=True)
            found += [trouble] if trouble else []
    for path in folder.rglob("run.json"):
        read_record(path)
    for name in ("comparison.json", "tiny.lock", "error-0.json"):
        for path in folder.rglob(name):
            # What is still being put together, in a hidden folder, is not seen as finished.
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                json.loads(path.read_text())
    for path in folder.rglob("report.html"):
        if "</html>" not in path.read_text():
            found.append(f"{path} is half a page")
    for link in folder.glob("runs/tiny/*"):
        if link.is_symlink() and not link.exists():
            found.append(f"{link} leads nowhere")
    for each in folder.rglob("checkpoints"):
        found += checkpoints.newest_whole(each).passed_over  # a sealed one that is not whole
    return found


def contents(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that is the same in each run, and the names of all others."""
    found: dict[str, str] = {}
    # An unfinished stage's folder is scratch once that stage is published; `clean` removes it.
    is_run = (folder / "runs/tiny").exists()
    ignored = ("/.locks/", "/.verified/", *(["/.working/"] if is_run else []))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or any(part in f"/{name}" for part in ignored):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.name in _VOLATILE:
            found[name] = "is there"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _import_all() -> None:
    """Import every module of the commands, so that no forked child has to."""
    import pipeline

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()  # what children share stays shared


@cache
def prepared() -> Path:
    """Return a folder with the recipe, an exported model and a finished run of it."""
    _import_all()
    folder = Path(tempfile.mkdtemp(prefix="posttrain-operations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tiny.yaml").write_text(RECIPE.split("  taken:")[0])
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    shutil.copytree(folder / "runs/tiny/base", folder / "model")
    for name in (ARTIFACT, "log.txt", "metrics.jsonl"):
        (folder / "model" / name).unlink(missing_ok=True)
    (folder / "tiny.yaml").write_text(RECIPE)
    for name in ("taken", "given"):
        ended = run_forked(folder / "tiny.yaml", folder / "runs", until=name)
        assert ended.code == 0, ended.output
    (folder / "runs.log").unlink()
    shutil.rmtree(folder / "runs/store/.verified", ignore_errors=True)
    return folder


def _copied(folder: Path) -> None:
    shutil.copytree(prepared(), folder, symlinks=True, dirs_exist_ok=True)


def command(*arguments: str) -> Callable[[Path], int]:
    """Return what calls `posttrain ARGUMENTS` in a folder, as the program would."""

    def act(folder: Path) -> int:
        import os

        from pipeline.cli import main

        os.chdir(folder)
        sys.argv = ["posttrain", *arguments]
        try:
            main()
        except SystemExit as leaving:
            return int(str(leaving.code or 0))
        return 0

    return act


def _with_export(folder: Path) -> None:
    """Put another export where one will be replaced."""
    shutil.copytree(_exported(), folder, symlinks=True, dirs_exist_ok=True)


@cache
def _exported() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="posttrain-operations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _copied(folder)
    assert _in_a_child(lambda: command("export", "tiny.yaml", "base", "out")(folder)) == 0
    return folder


def _in_a_child(act: Callable[[], int]) -> int:
    from tests.file_faults import Stop, run_stopped

    with tempfile.TemporaryDirectory() as elsewhere:
        ended, _ = run_stopped(act, Stop(Path("/nowhere")), Path(elsewhere) / "log")
    return 1 if ended.code is None else ended.code


def _with_unused(folder: Path) -> None:
    """Take two stages out of the record: `clean` then has two results to remove, and leftovers."""
    _copied(folder)
    path = folder / "runs/tiny/run.json"
    record = read_record(path)
    for name in ("lora", "given"):
        record["stages"].pop(name)
    write_sealed(path, record)
    working = Working(folder / "runs/store/.working/ppo-0123456789abcdef")
    working.start_over()
    (working.out / "log.txt").write_text("begun")
    (folder / "runs/tiny/.report.html.partial").write_text("<html>")


def _without_given(folder: Path) -> None:
    _copied(folder)
    shutil.rmtree((folder / "runs/tiny/given").resolve())
    (folder / "runs/tiny/given").unlink()


_KEY = fingerprint({"stage": "training"})
_EXECUTION: dict[str, Any] = {"threads": 1, "versions": {"torch": "1"}}


def _training(folder: Path) -> Working:
    return Store(folder / "runs").working("sft", _KEY)


def _write_checkpoint(working: Working, step: int, best: Path | None) -> None:
    """Write a checkpoint as a trainer does, file by file, and seal it."""
    path = working.checkpoints / f"checkpoint-{step}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
        (path / name).write_bytes(f"{name} {step}".encode() * 900)
    metrics = working.out / "metrics.jsonl"
    metrics.write_text("".join(f'{{"step": {n}}}\n' for n in range(step)))
    seal(path, step, 50, made=Made(_KEY, _EXECUTION, is_exact=True), metrics=metrics, best=best)


def _with_checkpoints(folder: Path) -> None:
    working = _training(folder)
    working.start_over()
    for step in (10, 20, 30):
        _write_checkpoint(working, step, working.checkpoints / "checkpoint-10")


def _seal_the_next(folder: Path) -> int:
    """Go on as a run does, from the newest whole checkpoint, to the next one."""

    def act() -> None:
        working = _training(folder)
        resume.prepare(working, _KEY, _EXECUTION, resume_anyway=False)
        _write_checkpoint(working, 40, working.checkpoints / "checkpoint-10")

    return _as_a_command(act)


def _start_over(folder: Path) -> int:
    """Begin anew since a library is another: what was there goes."""
    other = {**_EXECUTION, "versions": {"torch": "2"}}

    working = _training(folder)
    return _as_a_command(
        lambda: print(resume.prepare(working, _KEY, other, resume_anyway=False).notes)
    )


def _publish(folder: Path) -> int:
    def act() -> None:
        store, identity = Store(folder / "runs"), {"stage": "published"}
        key = fingerprint(identity)
        working = store.working("sft", key)
        working.start_over()
        (working.out / "part").mkdir()
        for name in ("model.safetensors", "config.json", "part/tokenizer.json"):
            (working.out / name).write_bytes(name.encode() * 500)
        record = {"name": "sft", "kind": "sft", "produces": "policy", "fingerprint": key}
        empty = {name: {} for name in ("inputs", "properties", "metrics", "provenance")}
        store.publish(working, record={**record, "identity": identity, **empty})

    return _as_a_command(act)


def _with_published(folder: Path) -> None:
    folder.mkdir()
    assert _publish(folder) == 0


def _with_folder(folder: Path) -> None:
    (folder / "out").mkdir(parents=True)
    (folder / "out/earlier.txt").write_text("earlier")


def _stage_a_folder(folder: Path) -> int:
    def act() -> None:
        with staging(folder / "out") as beside:
            (beside / "new").mkdir()
            for name in ("model.safetensors", "README.md"):
                (beside / "new" / name).write_bytes(name.encode() * 500)
            put(beside / "new", folder / "out")

    return _as_a_command(act)


def _write_record_of_an_error(folder: Path) -> int:
    return _as_a_command(lambda: write_json(error_path(Working(folder), 0), {"said": "x" * 300}))


def _write_lock(folder: Path) -> int:
    content = {"hub": {"models/a/b": "0" * 40}}
    return _as_a_command(lambda: write_json(lock_path(folder / "tiny.yaml"), content))


def _write_pooled(folder: Path) -> int:
    return _as_a_command(lambda: write_sealed(folder / "compare.json", {"rows": ["x" * 900]}))


def _as_a_command(act: Callable[[], None]) -> int:
    try:
        with one_line("operations"):
            act()
    except PosttrainError as error:
        print(error)
        return error.exit_code
    return 0


def _empty(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


_COMPARE = ("compare", "model", "tiny.yaml:base", "--tasks", "arithmetic", "--limit", "1")
_RUN = ("run", "tiny.yaml", "--no-report", "--stage")

WRITERS = (
    Writer("a stage", _without_given, command(*_RUN, "given"), every=6),
    Writer("a forced stage", _copied, command(*_RUN, "taken", "--force"), every=9),
    Writer(
        "adopt",
        _without_given,
        command("adopt", "tiny.yaml", "given", "model"),
        every=5,
        done_says="is there already",
    ),
    Writer("a training", _copied, command(*_RUN, "sft"), every=30),
    Writer("a checkpoint", _with_checkpoints, _seal_the_next),
    Writer("starting over", _with_checkpoints, _start_over),
    Writer(
        "an export",
        _copied,
        command("export", "tiny.yaml", "base", "out"),
        every=6,
        done_says="an export already",
    ),
    Writer(
        "an adapter's export",
        _copied,
        command("export", "tiny.yaml", "lora", "out"),
        every=9,
        done_says="an export already",
    ),
    Writer(
        "a replaced export",
        _with_export,
        command("export", "tiny.yaml", "taken", "out", "--force"),
        every=9,
    ),
    Writer("a report", _copied, command("report", "tiny.yaml", "--out", "out/report.html"), 2),
    Writer("a comparison", _copied, command(*_COMPARE, "--out", "out"), every=15),
    Writer("clean", _with_unused, command("clean", "--yes"), every=2),
    Writer("publishing", _empty, _publish),
    Writer("publishing again", _with_published, _publish),
    Writer("a folder", _empty, _stage_a_folder),
    Writer("a replaced folder", _with_folder, _stage_a_folder),
    Writer("a pooled comparison", _empty, _write_pooled),
    Writer("an error's record", _empty, _write_record_of_an_error),
    Writer("a recipe's lock", _empty, _write_lock),
)
