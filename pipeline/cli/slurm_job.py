"""Runs the stage of a Slurm job: `python -m pipeline.cli.slurm_job FOLDER`.

As `posttrain run --stage` does on one machine. Before its time is over or when it is to make room,
Slurm sends SIGTERM: the stage makes a checkpoint, and the job is put back into the queue to go on
from there. What it says goes to stdout, progress and what libraries print to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.environment import ignore_talk_between_libraries, set_environment
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError
from pipeline.machine import num_cores
from pipeline.run.slurm import client
from pipeline.run.slurm.job_folder import Ending, JobFolder

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe
    from pipeline.run.outcomes import Outcome
    from pipeline.run.slurm.job_folder import Job

_MAX_STOPS = 3  # in a row at the same step, after which a job is not put back any more


def main() -> int:
    """Run the stage; returns the exit code, which decides whether dependent jobs begin."""
    signal.signal(signal.SIGTERM, _interrupt)  # until the run listens
    set_environment()
    ignore_talk_between_libraries()
    folder = JobFolder(Path(sys.argv[1]))
    folder.begin()
    job = folder.job()
    try:
        outcome = _run(job)
    except KeyboardInterrupt:
        message = "stopped before it could make a checkpoint"
        error: PosttrainError = InterruptedRunError(job.stage, message, "run again to go on")
    except PosttrainError as raised:
        error = raised
    except Exception as raised:  # noqa: BLE001  whoever follows the job is told
        traceback.print_exc()
        summary = f"{type(raised).__name__}: {raised}"
        error = InfrastructureError(job.stage, f"failed: {summary}", f"see {folder.errors}")
    else:
        folder.end(Ending(outcome.status, outcome.seconds))
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # that of whoever ends a job that is put back
    final = _put_back(job, folder, error) if isinstance(error, InterruptedRunError) else error
    if final is None:
        return error.exit_code
    where, message, hint = final.where, final.message, final.hint
    folder.end(Ending(kind=type(final).__name__, where=where, message=message, hint=hint))
    sys.stderr.write(f"{final}\n")
    return final.exit_code


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    from pipeline.text.visible import visible

    sys.stdout.write(visible(line) + "\n")
    sys.stdout.flush()


def _run(job: Job) -> Outcome:
    """Run the stage as the recipe says that was submitted."""
    from pipeline.report.headline import headline
    from pipeline.run.recipe_run import plan_run
    from pipeline.run.runner import Selection, run
    from pipeline.store.store import Store

    recipe = _recipe(job)
    store = Store(Path(job.runs))
    if plan_run(recipe, store).stage(job.stage).fingerprint != job.fingerprint:
        message = f"a file that `{job.stage}` is built on has changed since its job was submitted"
        raise PosttrainError(job.recipe, message, "run again")
    (outcome,) = run(
        recipe,
        store,
        selection=Selection(only=job.stage, force=job.is_forced),
        resume_anyway=job.resume_anyway,
        say=_say,
        describe=headline,
    )
    return outcome


def _recipe(job: Job) -> Recipe:
    from pipeline.recipe.launching import processes_of
    from pipeline.recipe.load import load_document
    from pipeline.recipe.slurm import in_its_job
    from pipeline.recipe.yaml.document import Document

    document = Document(Path(job.recipe), dict(job.document), {})
    roots = {name: Path(root) for name, root in job.roots.items()}
    recipe = in_its_job(load_document(document, roots=roots))
    if job.seed is not None:
        recipe = recipe.with_seed(job.seed)
    cores = int(os.environ.get("SLURM_CPUS_ON_NODE", "0") or "0")
    if cores and recipe.threads is None and not os.environ.get("OMP_NUM_THREADS"):
        processes = processes_of(recipe, recipe.stages[job.stage]).count
        return replace(recipe, threads=max(1, min(cores, num_cores()) // processes))
    return recipe


def _put_back(
    job: Job, folder: JobFolder, error: InterruptedRunError
) -> InterruptedRunError | InfrastructureError | None:
    """Have Slurm run the job once more; returns None, or the error where it will not.

    One that somebody cancels stays so, and one that Slurm itself puts back is no longer running.
    """
    number = os.environ.get("SLURM_JOB_ID", "")
    if client.state_of(number) != client.RUNNING:
        return error
    steps = folder.note_stop(_newest_step(job))
    if len(steps) >= _MAX_STOPS and len(set(steps[-_MAX_STOPS:])) == 1:
        message = f"its job {number} was stopped {_MAX_STOPS} times at the same step"
        hint = "give it more time, as `sbatch: {time: 4:00:00}`"
        return InfrastructureError(job.stage, message, hint)
    _say(f"{job.stage:<14} {error.message}; its job {number} is put back into the queue")
    return None if client.requeue(number) else error


def _newest_step(job: Job) -> int:
    from pipeline.store import checkpoints
    from pipeline.store.store import Store

    recipe, store = _recipe(job), Store(Path(job.runs))
    working = store.working(recipe.stages[job.stage].stage, job.fingerprint)
    return checkpoints.newest_whole(working.checkpoints).step


if __name__ == "__main__":
    sys.exit(main())
