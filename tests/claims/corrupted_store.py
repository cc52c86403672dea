"""What G3 corrupts: a finished store and a stopped one, made once a process; who reads them, how.

Readers are commands, run in a forked child with the libraries imported already.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files.names import ARTIFACT, MANIFEST
from pipeline.store.store import VERIFIED
from tests.forked import run_forked

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

RECIPE = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 512}
    data: [{task: arithmetic}]
    tokens: 6k
    sequence_length: 64
    batch_size: 8
    training_args: {learning_rate: 3e-3, logging_steps: 1, save_steps: 2}
  lora:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 32}]
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2, logging_steps: 1}
  asked: {stage: evaluate, model: $lora, tasks: [arithmetic], limit: 1, styles: [zero-shot]}
  compared: {stage: compare, baseline: $base, candidates: [$lora], tasks: [arithmetic], limit: 1,
             styles: [zero-shot]}
  merged: {stage: merge, model: $lora}
"""

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_MODEL = (*_TOKENIZER, "metrics.jsonl")
# Every file of each result that has anything in it; one case holds this against the store.
FILES: dict[str, tuple[str, ...]] = {
    "tokenizer": _TOKENIZER,
    "base": (*_MODEL, "config.json", "generation_config.json", "model.safetensors"),
    "lora": (*_MODEL, "adapter_config.json", "adapter_model.safetensors"),
    "asked": ("items.jsonl",),
    "compared": ("comparison.json", "items.jsonl"),
}
CHECKPOINT = (
    *("config.json", "generation_config.json", "model.safetensors", "optimizer.pt"),
    *("rng_state.pth", "scheduler.pt", "trainer_state.json", "metrics.jsonl", "log_state.json"),
    *(*_TOKENIZER, MANIFEST),
)

# What is read, and which results are: all of them by whoever makes a plan.
READERS: dict[str, tuple[str, ...]] = {
    "plan": ("plan", "RECIPE"),
    "next stage": ("run", "RECIPE", "--until", "merged", "--no-report"),
    "report": ("report", "runs/tiny"),
    "export": ("export", "RECIPE", "lora", "out"),
    "chat": ("chat", "runs/tiny/lora"),
    "compare": (
        "compare",
        "runs/tiny/lora",
        "runs/tiny/base",
        "--tasks",
        "arithmetic",
        "--limit",
        "1",
        "--styles",
        "zero-shot",
    ),
}
_IMPORTED = (  # by the readers; once here, and not in each child
    *(
        "pipeline.cli",
        "pipeline.report.terminal.run",
        "pipeline.report.html.page",
        "pipeline.commands.seeds",
    ),
    *(
        "pipeline.commands.compare_models",
        "pipeline.commands.export",
        "pipeline.report.card",
        "pipeline.commands.status",
    ),
    *(
        "pipeline.commands.clean",
        "pipeline.chat.session",
        "pipeline.chat.terminal",
        "eval.asking.run",
    ),
    *("pipeline.models.language", "pipeline.models.reward", "rich.console", "rich.markdown"),
)
OF_MODELS = ("next stage", "export", "chat", "compare")  # they use `lora`, and `base` below it


@dataclass(frozen=True)
class Prepared:
    """recipe: its file. runs: everything but `merged` has run. stopped: `base` was killed."""

    recipe: Path
    runs: Path
    stopped: Path


@functools.cache
def prepared() -> Prepared:
    """Run the recipe, and once more until `base` is killed behind its second checkpoint."""
    for module in _IMPORTED:
        import_module(module)
    folder = Path(tempfile.mkdtemp(prefix="corruptions-"))
    recipe, runs, stopped = folder / "tiny.yaml", folder / "runs", folder / "stopped"
    recipe.write_text(RECIPE)
    for stage in ("asked", "compared"):
        ended = run_forked(recipe, runs, until=stage)
        assert ended.code == 0, ended.output

    def is_enough(_: float) -> bool:
        return len(checkpoints_of(stopped)) > 1

    killed = run_forked(recipe, stopped, until="base", signal_when=is_enough)
    assert killed.code is None, killed.output
    return Prepared(recipe, runs, stopped)


def checkpoints_of(runs: Path) -> list[Path]:
    """Return the sealed checkpoints of `base`, the oldest first."""
    found = runs.glob(f"store/.working/pretrain-*/checkpoints/checkpoint-*/{MANIFEST}")
    return sorted((path.parent for path in found), key=lambda path: int(path.name.split("-")[1]))


def copy_store(runs: Path, to: Path) -> Path:
    """Copy a store by hard links: whoever changes a file puts another one in its place."""
    return shutil.copytree(runs, to, symlinks=True, copy_function=os.link)


def put(path: Path, content: bytes) -> None:
    """Put a new file in the place of one, with the times of the old one."""
    state = path.stat() if path.exists() else None
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    if state is not None:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def hide(folder: Path) -> None:
    """Have the store believe that it has hashed an artifact as it is now: a disk that forgets."""
    files = json.loads((folder / ARTIFACT).read_text())["files"]
    seen = {}
    for name, entry in files.items():
        state = (folder / name).stat()
        times = [state.st_mtime_ns, state.st_ctime_ns]
        seen[name] = [state.st_size, *times, state.st_ino, entry["sha256"]]
    record = folder.parent / VERIFIED / f"{folder.name}.json"
    record.parent.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    record.write_text(json.dumps(seen))


@dataclass(frozen=True)
class Said:
    """How a command ended, None where it was killed, and all that it printed."""

    code: int | None
    output: str


def read_by(reader: str, runs: Path) -> Said:
    """Have a store read by one of READERS."""
    return call(READERS[reader], runs)


def call(words: tuple[str, ...], runs: Path) -> Said:
    """Call the command on a store; RECIPE, out and runs/ in its words stand for paths."""
    places = {"RECIPE": str(prepared().recipe), "out": str(runs.parent / "exported")}
    given = [places.get(word, word) for word in words]
    given = [str(runs / word[5:]) if word.startswith("runs/") else word for word in given]
    if words != ("report", "runs/tiny"):
        given += ["--runs", str(runs)]
    log = runs.parent / "said.txt"
    child = os.fork()
    if child == 0:
        _call_and_leave(given, log)
    try:
        _, state = os.waitpid(child, 0)
    except BaseException:  # the case's time is over
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(state)
    return Said(None if code < 0 else code, log.read_text(errors="replace"))


def _call_and_leave(given: list[str], log: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    stream = log.open("w", buffering=1)
    for number in (1, 2):
        os.dup2(stream.fileno(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0)
    sys.stdout = sys.stderr = stream
    os.environ |= {"COLUMNS": "1000", "POSTTRAIN_REPORT": "0"}
    sys.argv = ["posttrain", *given]
    code = 1
    try:
        from pipeline.cli import main

        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001  what the command lets through is what is looked for
        traceback.print_exc()
    stream.flush()
    os._exit(code)


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _zero_tail(content: bytes, random: Random) -> bytes:
    length = random.randint(1, len(content))
    while not content[-length:].strip(b"\0"):
        length = min(2 * length, len(content))
    return content[:-length] + bytes(length)


# What becomes of a file's contents; None: it is missing. The size stays where the name says so.
CHANGES: dict[str, Callable[[bytes, Random], bytes | None]] = {
    "missing": lambda content, random: None,
    "empty": lambda content, random: b"",
    "cut at a quarter": lambda content, random: content[: len(content) // 4],
    "cut anywhere": lambda content, random: content[: random.randrange(len(content))],
    "cut by a byte": lambda content, random: content[:-1],
    "zero tail, same size": _zero_tail,
    "bit 1 flipped, same size": _flipped,
    "bit 2 flipped, same size": _flipped,
    "bit 3 flipped, same size": _flipped,
}
