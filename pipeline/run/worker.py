"""Runs the one stage that DIR/stage.json describes.

In the runner's process, or as `python -m pipeline.run.worker DIR`.

Reads the request, seeds everything, calls the stage's `run`, writes DIR/result.json. Of several
processes that share the work (ranks.py) each comes through here; only the first shows progress and
writes.
"""

import ctypes
import errno
import json
import logging
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
from pipeline.checks.overlaps import screen_of
from pipeline.config.batch import split_batch
from pipeline.config.references import Places
from pipeline.config.stage import Progress, StageContext, StageInput
from pipeline.config.stage_config import StageConfig
from pipeline.config.training_args import with_new_names
from pipeline.config.training_stage import TrainingStage
from pipeline.environment import set_environment
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError, printable
from pipeline.files.disk import disk_failure, one_line
from pipeline.files.names import LOG, METRICS
from pipeline.run import progress
from pipeline.run.course import Course
from pipeline.run.interrupt import stop_requests
from pipeline.run.stage_log import logged
from pipeline.stages import stage_for
from pipeline.store import checkpoints
from pipeline.store.attempt import Recorder
from pipeline.store.lineage import parent_of
from pipeline.store.manifest import write_json, write_sealed
from pipeline.store.store import Working

ERRORS = "error-*.json"
PARENT = "POSTTRAIN_PARENT"  # in the environment of a worker: the process that it must not outlive
# mallopt's parameters (malloc.h): trim threshold, top pad, mmap threshold (32 MiB is its maximum).
_MALLOPT = {-1: 512 << 20, -2: 64 << 20, -3: 32 << 20}

# What `accelerate launch` sets, and a shell may have kept.
_SPLITTERS = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
_PR_SET_PDEATHSIG = 1  # prctl.h
_WORDS_SAID = 40  # of a failure that is nobody's PosttrainError

# How allocators without an exception class of their own say it: torch's on the CPU, CUDA's, MPS's.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass
class _Place:
    """Shows progress, and remembers where it is."""

    show: Progress
    name: str = "its start"

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        self.name = f"{label} {done} of {total}" if total > 1 else label
        self.show(label, done, total, note)


def execute(working: Working, *, show: Progress, should_stop: Callable[[], bool]) -> None:
    """Run the stage that the working folder describes and leave its result.json there."""
    request = json.loads(working.request.read_text(encoding="utf-8"))
    stage = stage_for(request["kind"], Path(request["base"]))
    config = stage.config.model_validate_json(json.dumps(request["config"]))
    processes: int = request["processes"]
    _check_processes(request["name"], processes)
    is_main = _rank() == 0
    set_environment()

    made = checkpoints.Made(request["fingerprint"], request["execution"], request["is_exact"])

    def seal(folder: Path, step: int, max_steps: int, best: Path | None) -> None:
        metrics = working.out / METRICS
        checkpoints.seal(folder, step, max_steps, made=made, metrics=metrics, best=best)

    place = _Place(Recorder(working, show) if is_main else progress.silent)
    resume_from = request["resume_from"]
    places = Places(
        Path(request["base"]),
        {name: Path(path) for name, path in request["roots"].items()},
        request["revisions"],
        Path(elsewhere) if (elsewhere := request.get("elsewhere")) else None,
    )
    screen = screen_of(request, config, places) if isinstance(config, TrainingStage) else None
    context = StageContext(
        name=request["name"],
        out=working.out,
        checkpoints=working.checkpoints,
        outputs={name: StageInput(**given) for name, given in request["outputs"].items()},
        seed=request["seed"],
        places=places,
        progress=place,
        should_stop=should_stop,
        seal=seal,
        parent_of=parent_of,
        resume_from=Path(resume_from) if resume_from else None,
        revisions=request["revisions"],
        is_main=is_main,
        processes=processes,
        screen=screen,
        run=request.get("run", ""),  # a comparison without a recipe is no run
    )
    with logged(working.out / LOG):
        show("loading libraries", 0, 1)
        _keep_memory()
        _seed_everything(context.seed, threads=request["execution"]["threads"])
        try:
            result = stage.run(config, context)
        except StopRequested as stopped:
            raise InterruptedRunError(
                context.name, "stopped on request", "run again to start this stage anew"
            ) from stopped
        except Exception as error:  # of the disk, some libraries say it without a class of its own
            told = _as_told(error, context, config, stage.defaults(config), place.name)
            if told is None:
                raise
            raise told from error
    if is_main:
        said = asdict(result)
        if screen is not None:
            said["metrics"] |= screen.metrics()
            screen.write(working.out)
        write_sealed(working.result, {**said, "world_size": _world_size()})


def _as_told(
    error: Exception,
    context: StageContext,
    config: StageConfig,
    defaults: Mapping[str, Any],
    place: str,
) -> InfrastructureError | None:
    """Return what to tell the user where memory ran out or a disk refused; else None."""
    if _is_out_of_memory(error):
        logging.getLogger(__name__).error("memory ran out at %s", place, exc_info=error)
        message = f"memory ran out at {place}"
        return InfrastructureError(context.name, message, _memory_advice(config, defaults))
    failure = disk_failure(error, context.name, folder=str(context.out))
    if failure is None or isinstance(error, PosttrainError):
        return None
    logging.getLogger(__name__).error("a disk refused at %s", place, exc_info=error)
    wrote = "" if failure.where == context.name else f" ({failure.where})"
    message = f"{failure.message} at {place}{wrote}"
    return InfrastructureError(context.name, message, failure.hint)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _check_processes(name: str, asked: int) -> None:
    """Refuse to train alone, or in a crowd, where the recipe says otherwise."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != asked:
        message = f"WORLD_SIZE is {started}, the recipe asks for {asked}"
        hint = "start posttrain once; `launch:` in the recipe says how many processes it starts"
        raise InfrastructureError(name, message, hint)
    split = [name for name in _SPLITTERS if os.environ.get(name, "").lower() in ("1", "true")]
    if split:
        message = f"{split[0]} is set, and no stage can save weights that are split"
        raise InfrastructureError(name, message, "unset it")
    if asked == 1:  # left there by whatever started the runner; Accelerate would believe it
        for name in ("RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)


def _world_size() -> int:
    """Return how many processes did the work."""
    from torch import distributed

    return distributed.get_world_size() if distributed.is_initialized() else 1


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, be it that a stage made another error of it."""
    import torch

    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def _memory_advice(config: StageConfig, defaults: Mapping[str, Any]) -> str:
    """Return what takes less memory, what costs least first; what is done already is left out."""
    if not isinstance(config, TrainingStage):
        batch_size = getattr(config, "batch_size", None)
        has_batches = isinstance(batch_size, int) and batch_size > 1
        return f"lower `batch_size` ({batch_size} now)" if has_batches else "give it less data"
    given = {**defaults, **with_new_names(config.training_args)}
    advice: list[str] = []
    try:
        per_device, _ = split_batch(
            config.batch_size,
            per_device=given.get("per_device_train_batch_size"),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
        )
    except ValueError:  # memory ran out before the stage looked at its arguments
        per_device = config.batch_size
    if per_device > 1:
        advice.append(
            f"lower `training_args.per_device_train_batch_size` ({per_device} now; the mathematics "
            "stay those of `batch_size`)"
        )
    if not given.get("activation_checkpointing"):
        advice.append("set `training_args.activation_checkpointing: true`")
    advice.append(f"shorten `{_length_setting(config)}`")
    if config.lora is None and isinstance(getattr(config, "model", None), str):
        advice.append("train an adapter with `lora:`")
    return ", or ".join(advice)


def _length_setting(config: TrainingStage) -> str:
    """Return what bounds the length of the sequences that a stage trains on."""
    asked = type(config).model_fields
    if "sequence_length" in asked:
        return "sequence_length"
    return f"training_args.{'max_completion_length' if 'prompts' in asked else 'max_length'}"


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


def error_path(working: Working, rank: int) -> Path:
    """Return where a process says why it failed."""
    return working.path / ERRORS.replace("*", str(rank))


def main() -> int:
    """Run the stage of the folder given on the command line; returns the exit code."""
    working = Working(Path(sys.argv[1]))
    _end_with_parent()

    def record(said: Mapping[str, Any]) -> None:
        try:
            write_json(error_path(working, _rank()), {"time_s": time.monotonic(), **said})
        except OSError:  # the disk is full; then it is said here, and where this prints is named
            sys.stderr.write(printable(f"{said.get('message') or said.get('traceback')}\n"))

    def record_crash(kind: type[BaseException], error: BaseException, where: Any) -> None:
        lines = traceback.format_exception(kind, error, where)
        first = " ".join(str(error).split()[:_WORDS_SAID])
        record({"traceback": "".join(lines), "said": f"{kind.__name__}: {first}"})

    sys.excepthook = record_crash  # whoever started this tells whose failure was the first
    try:
        with (
            one_line(str(working.path)),
            stop_requests(is_silent=True) as should_stop,
            _shown(working) as show,
        ):
            execute(working, show=show, should_stop=should_stop)
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code
    except PosttrainError as error:
        said = {"where": error.where, "message": error.message, "hint": error.hint}
        record({"class": type(error).__name__, **said})
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    """Have the kernel kill this process when the runner dies, so that no orphan trains on.

    Asking it to stop would not do: one that waits for another process does not hear of it.
    """
    parent = int(os.environ[PARENT])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(InterruptedRunError.exit_code)


def _shown(working: Working) -> AbstractContextManager[Progress]:
    request = json.loads(working.request.read_text(encoding="utf-8"))
    return progress.shown(request["name"], course=course_in(request))


def course_in(request: Mapping[str, Any]) -> Course | None:
    """Return where a request's stage stands in its run; None for work outside of one."""
    return Course(**request["course"]) if request.get("course") else None


if __name__ == "__main__":
    sys.exit(main())
