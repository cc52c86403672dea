"""How a stage's process is started: in this one, in one of its own, or under `accelerate launch`.

Only the command line differs; the work is the same `pipeline.run.worker`. FSDP2, DeepSpeed and
several machines come from Accelerate's own config file (`launch: {with: accelerate, config:
fsdp2.yaml}`).
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline import errors
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError
from pipeline.recipe.config import LaunchBlock
from pipeline.run import progress, worker
from pipeline.run.interrupt import StopRequest
from pipeline.run.store import Working

_PR_SET_PDEATHSIG = 1


def launch(
    working: Working, block: LaunchBlock, *, base: Path, stop: StopRequest, lock: int
) -> None:
    """Run the stage that the working folder describes and wait for it.

    base: the recipe's folder, which `block.config` is relative to. lock: descriptor of the stage's
    lock; a child holds it too, so that a killed runner does not free a stage that still runs.
    Raises the stage's own PosttrainError, or InfrastructureError when its process died.
    """
    name = json.loads(working.request.read_text(encoding="utf-8"))["name"]
    (working.path / worker.ERROR).unlink(missing_ok=True)
    if block.launcher == "in_process":
        with progress.shown(name) as show:
            worker.execute(working, show=show, should_stop=stop)
        return
    process = subprocess.Popen(
        command(working.path, block, base),
        pass_fds=(lock,),
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  the runner starts no threads before this
    )
    stop.forward_to = process.send_signal
    try:
        code = process.wait()
    finally:
        stop.forward_to = None
    if code != 0:
        raise _failure(name, working, code)


def command(directory: Path, block: LaunchBlock, base: Path) -> list[str]:
    """Return the command line that runs the worker. `-P` keeps the current folder off sys.path."""
    run_worker = ["-m", "pipeline.run.worker", str(directory)]
    if block.launcher == "python":
        return [sys.executable, "-P", *run_worker]
    options = ["--num_processes", str(block.processes)]
    if block.config is not None:
        options = ["--config_file", str(base / block.config), *options]
    else:
        options += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        if not Path("/dev/nvidiactl").exists():
            options.append("--cpu")
        elif block.processes > 1:
            options.append("--multi_gpu")
    return [sys.executable, "-P", "-m", "accelerate.commands.launch", *options, *run_worker]


def _failure(name: str, working: Working, code: int) -> PosttrainError:
    path = working.path / worker.ERROR
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        kind: type[PosttrainError] = getattr(errors, record.pop("class"))
        return kind(**record)
    if code == InterruptedRunError.exit_code:
        return InterruptedRunError(name, "stopped on request", "run again to go on from there")
    if code < 0:
        reason = f"its process was killed by {signal.Signals(-code).name}"
        advice = "if that was the kernel, memory ran out: lower `per_device_train_batch_size`"
        return InfrastructureError(name, reason, advice)
    return InfrastructureError(name, f"its process left with code {code}", "see above for why")


def _die_with_parent() -> None:
    """Ask the kernel to SIGTERM this child when the runner dies, so that no orphan trains on."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
