"""Runs recipes in forked children that have the heavy libraries imported already, to kill them.

Importing takes seven seconds, a fork milliseconds; so a hundred kills fit into minutes. What
upstream or we read once a process is read beforehand as well. Always through the public
`run_recipe`. Safe because the parent never starts a torch thread
(OMP_NUM_THREADS=1).
"""

import contextlib
import gc
import importlib
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Whose modules stages import when they run.
_PACKAGES = (
    *("pipeline.data.encoding", "pipeline.data.making", "pipeline.models", "pipeline.training"),
    *("pipeline.rewards", "pipeline.rl", "pipeline.measuring", "pipeline.stages.labelling"),
    *("eval.asking", "eval.comparison", "eval.tasks", "reward.verifiers"),
)


@cache
def warm() -> None:
    """Import what a stage would import, and read what it would read of upstream, once."""
    import datasets  # noqa: F401
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer  # noqa: F401
    from trl import DPOTrainer, KTOTrainer, RewardTrainer, SFTTrainer  # noqa: F401

    from pipeline import load_recipe
    from tests.conftest import ALIGNED

    torch.set_num_threads(1)
    for name in _PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "aligned.yaml"
        recipe.write_text(ALIGNED)
        load_recipe(recipe)  # the fields of trainers and of a model
        sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 8)
        config = LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=1)
        LlamaForCausalLM(config).save_pretrained(folder)
        LlamaForCausalLM.from_pretrained(folder)  # how weights of older models are renamed
    gc.freeze()  # each trainer looks for garbage; among what was imported there is none


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
    only: str | None = None,
    jobs: int = 1,
    signal_when: Callable[[float], bool] | None = None,
    number: int = signal.SIGKILL,
    first: Callable[[], None] | None = None,
    processor_s: float | None = None,
    resume_anyway: bool = False,
) -> Ended:
    """Run a recipe in a child; the rest as `in_child` has it."""

    def run() -> None:
        from pipeline import load_recipe, run_recipe
        from pipeline.run.runner import Selection

        run_recipe(
            load_recipe(recipe, overrides=overrides),
            runs=runs,
            selection=Selection(until=until, only=only),
            jobs=jobs,
            say=lambda line: print(line, flush=True),
            resume_anyway=resume_anyway,
        )

    log = runs.parent / f"{runs.name}.log"
    return in_child(
        run, log, signal_when=signal_when, number=number, first=first, processor_s=processor_s
    )


def in_child(
    do: Callable[[], None],
    log: Path,
    *,
    signal_when: Callable[[float], bool] | None = None,
    number: int = signal.SIGKILL,
    first: Callable[[], None] | None = None,
    processor_s: float | None = None,
) -> Ended:
    """Do something in a forked child, with what it prints in a log.

    Once `signal_when(seconds since its start)`, its group is signalled; once it has used
    `processor_s`, it is killed. first: called in the child before anything else.
    """
    log.touch()  # a child may be killed before it writes
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        _do_and_leave(do, log, first)
    clock = (~child << 3) | 2  # of that process: clock_getcpuclockid(3)
    status = None
    while status is None:
        waited, state = os.waitpid(child, os.WNOHANG)
        if waited:
            status = state
            break
        if signal_when is not None and signal_when(time.monotonic() - started_s):
            with contextlib.suppress(ProcessLookupError):  # it has no group yet: once more
                os.killpg(child, number)
                signal_when = None
        if processor_s is not None and time.clock_gettime(clock) >= processor_s:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.003)
    seconds = time.monotonic() - started_s
    code = os.waitstatus_to_exitcode(status)
    return Ended(None if code == -signal.SIGKILL else code, log.read_text(), seconds)


def _do_and_leave(do: Callable[[], None], log: Path, first: Callable[[], None] | None) -> None:
    """In the child: say what happened in the log, leave without the parent's clean-up."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    stream = log.open("w", buffering=1)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    from pipeline.errors import PosttrainError

    code = 0
    try:
        if first is not None:
            first()
        do()
    except PosttrainError as error:
        print(error, flush=True)
        code = error.exit_code
    except BaseException:  # noqa: BLE001  a child must not run the parent's tests
        traceback.print_exc()
        code = 1
    stream.flush()
    os._exit(code)
