"""Runs recipes in forked children that have the heavy libraries imported already, to kill them.

Importing takes seven seconds, a fork milliseconds; so a hundred kills fit into minutes. Always
through the public `run_recipe`. Safe because the parent never starts a torch thread
(OMP_NUM_THREADS=1).
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def warm() -> None:
    """Import what a stage would import, once."""
    import datasets  # noqa: F401
    import torch
    from transformers import Trainer  # noqa: F401
    from trl import DPOTrainer, RewardTrainer, SFTTrainer  # noqa: F401

    from pipeline import adapters, models  # noqa: F401

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Ended:
    """How a forked run ended: its exit code, or None when it was killed; and what it printed."""

    code: int | None
    output: str
    seconds: float


def run_forked(
    recipe: Path,
    runs: Path,
    *,
    overrides: Sequence[str] = (),
    until: str | None = None,
    signal_when: Callable[[float], bool] | None = None,
    number: int = signal.SIGKILL,
) -> Ended:
    """Run a recipe in a child; once `signal_when(seconds since its start)`, signal its group."""
    log = runs.parent / f"{runs.name}.log"
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        _run_and_leave(recipe, runs, overrides, until, log)
    status = None
    while status is None:
        waited, state = os.waitpid(child, os.WNOHANG)
        if waited:
            status = state
            break
        if signal_when is not None and signal_when(time.monotonic() - started_s):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, number)
            signal_when = None
        time.sleep(0.003)
    seconds = time.monotonic() - started_s
    code = os.waitstatus_to_exitcode(status)
    return Ended(None if code == -signal.SIGKILL else code, log.read_text(), seconds)


def _run_and_leave(
    recipe: Path, runs: Path, overrides: Sequence[str], until: str | None, log: Path
) -> None:
    """In the child: run, say what happened in the log, leave without the parent's clean-up."""
    stream = log.open("w", buffering=1)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    from pipeline import load_recipe, run_recipe
    from pipeline.errors import PosttrainError
    from pipeline.run.runner import Selection

    code = 0
    try:
        run_recipe(
            load_recipe(recipe, overrides=overrides),
            runs=runs,
            selection=Selection(until=until),
            say=lambda line: print(line, flush=True),
        )
    except PosttrainError as error:
        print(error, flush=True)
        code = error.exit_code
    except BaseException:  # noqa: BLE001  a child must not run the parent's tests
        traceback.print_exc()
        code = 1
    stream.flush()
    os._exit(code)
