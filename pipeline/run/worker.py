"""Runs the one stage that DIR/stage.json describes.

In the runner's process, or as `python -m pipeline.run.worker DIR`.

Reads the request, seeds everything, calls the stage's `run`, writes DIR/result.json. Of several
processes that share the work (ranks.py) each comes through here; only the first shows progress and
writes.
"""

import ctypes
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.model import StopRequested
from pipeline.config.stage import Progress, StageContext, say_nothing
from pipeline.config.training_stage import TrainingStage
from pipeline.data.screening.screen import Screen
from pipeline.errors import InterruptedRunError, PosttrainError, printable
from pipeline.files.disk_errors import one_line
from pipeline.files.names import LOG, METRICS
from pipeline.run import progress
from pipeline.run.interrupt import stop_requests
from pipeline.run.out_of_resources import resource_failure
from pipeline.run.request import Request, read_request
from pipeline.run.stage_log import log_to
from pipeline.run.worker_environment import PARENT, enter_environment, rank
from pipeline.stages import stage_for
from pipeline.store import checkpoints
from pipeline.store.attempt import Recorder
from pipeline.store.lineage import parent_of
from pipeline.store.manifest import write_json, write_sealed
from pipeline.store.store import Working

ERRORS = "error-*.json"
# mallopt's parameters (malloc.h): trim threshold, top pad, mmap threshold (32 MiB is its maximum).
_MALLOPT = {-1: 512 << 20, -2: 64 << 20, -3: 32 << 20}
_PR_SET_PDEATHSIG = 1  # prctl.h
_MAX_WORDS = 40  # of the first line about a failure that is nobody's PosttrainError


@dataclass
class _Place:
    """Shows progress, and remembers where it is."""

    show: Progress
    name: str = "its start"

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        self.name = f"{label} {done} of {total}" if total > 1 else label
        self.show(label, done, total, note)


def execute(working: Working, *, show: progress.Display, should_stop: Callable[[], bool]) -> None:
    """Run the stage that the working folder's request asks for; leave its result.json there."""
    request = read_request(working.request)
    config = request.config
    stage = stage_for(config.stage, request.places.base)
    enter_environment(request.name, request.processes)
    is_main = rank() == 0
    place = _Place(Recorder(working, show) if is_main else progress.silent)
    screen = None
    if isinstance(config, TrainingStage):
        screen = Screen(request.decontaminate, request.measured_by, config.sources, request.places)
    say = show.say if is_main else say_nothing
    context = _context(working, request, place, should_stop, screen, say=say)
    with log_to(working.out / LOG):
        show("loading libraries", 0, 1)
        _keep_memory()
        _seed_everything(request.seed, threads=request.execution["threads"])
        try:
            result = stage.run(config, context)
        except StopRequested as stopped:
            raise InterruptedRunError(
                request.name, "stopped on request", "run again to start this stage anew"
            ) from stopped
        except Exception as error:  # of the disk, some libraries say it without a class of its own
            failure = resource_failure(error, context, config, stage.defaults(config), place.name)
            if failure is None:
                raise
            raise failure from error
    if is_main:
        record = asdict(result)
        if screen is not None:
            record["metrics"] |= screen.metrics()
            screen.write(working.out)
        write_sealed(working.result, {**record, "world_size": _world_size()})


def _context(
    working: Working,
    request: Request,
    progress: Progress,
    should_stop: Callable[[], bool],
    screen: Screen | None,
    *,
    say: Callable[[str], None],
) -> StageContext:
    """Return what the stage is handed."""
    made = checkpoints.Made(request.fingerprint, dict(request.execution), request.is_exact)

    def seal(folder: Path, step: int, max_steps: int, best: Path | None) -> None:
        metrics = working.out / METRICS
        checkpoints.seal(folder, step, max_steps, made=made, metrics=metrics, best=best)

    return StageContext(
        name=request.name,
        out=working.out,
        checkpoints=working.checkpoints,
        outputs=request.inputs,
        seed=request.seed,
        places=request.places,
        progress=progress,
        should_stop=should_stop,
        seal=seal,
        parent_of=parent_of,
        resume_from=request.resume_from,
        revisions=request.places.revisions,
        is_main=rank() == 0,
        processes=request.processes,
        sharding=request.sharding,
        screen=screen,
        run=request.run,
        answers=request.answers,
        keeping=request.keeping,
        spending=working.spending,
        rank=rank(),
        say=say,
    )


def _world_size() -> int:
    """Return how many processes did the work."""
    from torch import distributed

    return distributed.get_world_size() if distributed.is_initialized() else 1


def _keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back at once.

    A training step frees and takes again buffers of megabytes; by default each costs a system call
    and a page fault a page: 34 s instead of 16 s for 60 SFT steps of a 1M model on two cores.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, size_bytes in _MALLOPT.items():
            libc.mallopt(parameter, size_bytes)


def _seed_everything(seed: int, *, threads: int) -> None:
    """Seed Python's, NumPy's and torch's generators and pin the number of threads."""
    import torch
    from transformers import set_seed
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(threads)
    set_seed(seed)
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()


def error_path(working: Working, number: int) -> Path:
    """Return where the process of a rank says why it failed."""
    return working.path / ERRORS.replace("*", str(number))


def main() -> int:
    """Run the stage of the folder given on the command line; returns the exit code."""
    working = Working(Path(sys.argv[1]))
    end_with_parent()
    try:
        with stop_requests(is_silent=True) as should_stop:
            return attempt(working, should_stop, _show_here)
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code


def attempt(
    working: Working,
    should_stop: Callable[[], bool],
    shown: Callable[[Request], AbstractContextManager[progress.Display]],
) -> int:
    """Run the stage of a working folder; where it fails, write there why. Returns an exit code.

    shown: opens what shows its progress. A crash is written down too, and raised.
    """

    def record(failure: Mapping[str, Any]) -> None:
        try:
            write_json(error_path(working, rank()), {"time_s": time.monotonic(), **failure})
        except OSError:  # the disk is full; then it is said here, and where this prints is named
            text = failure.get("message") or failure.get("traceback")
            sys.stderr.write(printable(f"{text}\n"))

    def record_crash(kind: type[BaseException], error: BaseException, where: Any) -> None:
        lines = traceback.format_exception(kind, error, where)
        first = " ".join(str(error).split()[:_MAX_WORDS])
        record({"traceback": "".join(lines), "summary": f"{kind.__name__}: {first}"})

    sys.excepthook = record_crash  # whoever started this tells whose failure was the first
    try:
        with one_line(str(working.path)):
            request = read_request(working.request)
            with shown(request) as show:
                execute(working, show=show, should_stop=should_stop)
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code
    except PosttrainError as error:
        parts = {"where": error.where, "message": error.message, "hint": error.hint}
        record({"class": type(error).__name__, **parts})
        return error.exit_code
    return 0


def _show_here(request: Request) -> AbstractContextManager[progress.Display]:
    return progress.show_progress(request.name, course=request.course)


def end_with_parent() -> None:
    """Have the kernel kill this process when the runner dies, so that no orphan trains on.

    Asking it to stop would not do: one that waits for another process does not hear of it. Linux
    means the thread that started this one: it must live as long as the process is wanted.
    """
    parent = int(os.environ[PARENT])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(InterruptedRunError.exit_code)


if __name__ == "__main__":
    sys.exit(main())
