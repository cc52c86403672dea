"""Where a stage begins: at its newest whole checkpoint, if it still runs the same way, or anew.

A change of what could change a number (batch split, processes, threads, library versions) starts
the stage over, and the user is told; `--resume-anyway` resumes regardless and marks the result as
not exact. What of PPO's own settings may not change is in pipeline/rl/resume_settings.py.
"""

import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.config.deepspeed import ZERO
from pipeline.config.field_types import Launcher
from pipeline.config.sharding import Sharding
from pipeline.config.stage_config import StageConfig
from pipeline.config.training_args import EXECUTION_KEYS, HARMLESS_ON_RESUME
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import LOG, MANIFEST, METRICS
from pipeline.files.whole_files import flush
from pipeline.machine import threads_of
from pipeline.store import checkpoints
from pipeline.store.fingerprint import SHORT
from pipeline.store.store import Working, drop

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True)
class Start:
    """How a stage begins: from a checkpoint or from nothing, and what the user is told about it."""

    checkpoint: Path | None
    is_exact: bool
    notes: tuple[str, ...]


def execution_of(
    config: StageConfig,
    launcher: Launcher = "in_process",
    processes: int = 1,
    sharding: Sharding | None = None,
    *,
    threads: int | None = None,
) -> dict[str, Any]:
    """Return how the stage will run, as far as it could change a number.

    threads: of each process; by default all that there are.
    """
    arguments = getattr(config, "training_args", {})
    by_deepspeed = sharding is not None and sharding.engine == "deepspeed"
    return {
        "training_args": {key: arguments[key] for key in sorted(EXECUTION_KEYS & set(arguments))},
        "launch": {
            "with": launcher,
            "processes": processes,
            **({"split": sharding.split} if sharding else {}),
            **({"deepspeed": sharding.options} if sharding and by_deepspeed else {}),
        },
        "threads": threads or threads_of(processes),
        "versions": {name: version_of(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def version_of(name: str) -> str:
    """Return the version of an installed distribution, or `absent`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def prepare(
    working: Working, fingerprint: str, execution: Mapping[str, Any], *, resume_anyway: bool
) -> Start:
    """Open the working folder and decide where to begin.

    Only what is in the checkpoint counts; anything else in the folder may be torn or gone. Raises
    CorruptArtifactError when there were whole checkpoints once and none is left, and for those of
    another stage.
    """
    if not working.path.is_dir():
        working.path.mkdir(parents=True)
        for folder in list(working.path.parents)[:2]:
            flush(folder)  # else a power loss could take it, and the checkpoints in it
    had_checkpoints = checkpoints.has_any(working.checkpoints)
    newest = checkpoints.newest_whole(working.checkpoints)
    if newest.made is not None and newest.made.fingerprint != fingerprint:
        message = f"holds checkpoints of another stage ({newest.made.fingerprint[:SHORT]})"
        raise CorruptArtifactError(str(working.path), message, "give the folders their names back")
    notes = [f"passes over a torn checkpoint: {torn}" for torn in newest.passed_over]
    for torn in newest.passed_over:
        drop(working.checkpoints / torn.partition(":")[0])
    if newest.path is None or newest.made is None:
        if had_checkpoints:
            raise CorruptArtifactError(
                str(working.checkpoints),
                f"no whole checkpoint is left ({'; '.join(newest.passed_over)})",
                "run again to start this stage over",
            )
        working.start_over()
        return Start(None, is_exact=True, notes=())
    changed = "; ".join(_differences(newest.made.execution, execution))
    is_readable = _parts(newest.made.execution) == _parts(execution)
    if changed and not (resume_anyway and is_readable):
        working.start_over()
        advice = " (--resume-anyway goes on regardless)" if is_readable else ""
        note = f"starts over, since this changed: {changed}{advice}"
        return Start(None, is_exact=True, notes=(*notes, note))
    if changed:
        notes.append(f"goes on although this changed: {changed}; marked not exact")
    _back_to(working, newest.path)
    return Start(newest.path, is_exact=newest.made.is_exact and not changed, notes=tuple(notes))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    """Yield what could change a number, as `key: old -> new`."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            for inner in sorted({*old, *new} - HARMLESS_ON_RESUME):
                if old.get(inner) != new.get(inner):
                    yield f"{inner}: {old.get(inner)} -> {new.get(inner)}"
        elif old != new:
            yield f"{key}: {old} -> {new}"


def _parts(execution: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return how a checkpoint is divided: one of parts is read as parts, DeepSpeed's as many."""
    launched = execution.get("launch", {})
    zero = launched.get("deepspeed", {}).get(ZERO)
    return launched.get("split"), zero, launched["processes"] if zero else None


def _back_to(working: Working, checkpoint: Path) -> None:
    """Reset out/ to the moment of the checkpoint: its metrics, the log, nothing else."""
    if not working.out.is_dir():
        drop(working.out)
        working.out.mkdir()
    for path in list(working.out.iterdir()):
        if path.name != LOG or not path.is_file():
            drop(path)
    if (checkpoint / METRICS).exists():
        shutil.copyfile(checkpoint / METRICS, working.out / METRICS)
    for path in working.checkpoints.iterdir():
        if path.is_dir() and not (path / MANIFEST).exists():
            shutil.rmtree(path)
    drop(working.result)
