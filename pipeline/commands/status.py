"""`posttrain status`: what is there of each stage, unfinished work included."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.files.sizes import tree_bytes
from pipeline.plan.plan import Plan, PlannedStage
from pipeline.run.slurm.client import RUNNING, job_states
from pipeline.run.slurm.job_folder import job_folder
from pipeline.store import checkpoints
from pipeline.store.attempt import attempt_at
from pipeline.store.kept import ENCODED
from pipeline.store.store import Store, Working
from pipeline.text.amounts import size


@dataclass(frozen=True)
class StageState:
    """One stage as `status` shows it."""

    name: str
    kind: str
    state: str
    size_bytes: int
    folder: Path | None


def _of_jobs(plan: Plan, store: Store) -> dict[str, str]:
    """Return what Slurm says of the jobs that wait or run, by stage; asked only if there are any.

    `base: waits as job 12 (Priority)`.
    """
    numbers: dict[str, str] = {}
    for planned in plan.stages:
        job = None if planned.artifact else job_folder(store, planned).submitted()
        if job is not None:
            numbers[planned.name] = job.number
    states = job_states() or {} if numbers else {}
    said: dict[str, str] = {}
    for name, number in numbers.items():
        state = states.get(number)
        if state is not None and not state.is_over:
            waits = "" if state.state == RUNNING else f"waits as job {number} ({state.reason})"
            said[name] = waits or f"job {number}"
    return said


def _unfinished(store: Store, planned: PlannedStage, working: Working) -> str:
    """Return how far a stage is that has no result: running, failed and why, or stopped."""
    attempt = attempt_at(store, planned.kind, planned.fingerprint)
    newest = checkpoints.newest_whole(working.checkpoints)
    safe = f"step {newest.step} is safe" if newest.path else ""
    if attempt is not None and attempt.state == "running":
        steps = f" {attempt.done} of {attempt.total}" if attempt.total > 1 else ""
        return f"running, {attempt.label}{steps}" if attempt.label else "running"
    if attempt is not None and attempt.state == "failed":
        return ", ".join(filter(None, (f"failed ({attempt.error})", safe)))
    return f"stopped, {safe}" if safe else "started"


def status(plan: Plan, store: Store) -> list[StageState]:
    """Return what is there of each stage, unfinished work included."""
    states: list[StageState] = []
    jobs = _of_jobs(plan, store)
    for planned in plan.stages:
        working = store.working(planned.kind, planned.fingerprint)
        if planned.artifact is not None:
            exact = "" if planned.artifact.provenance["exact"] else ", not exact"
            states.append(
                StageState(
                    planned.name,
                    planned.kind,
                    f"done{exact}",
                    planned.artifact.size_bytes,
                    planned.artifact.path,
                )
            )
        elif working.path.exists():
            state = ", ".join(
                filter(None, (_unfinished(store, planned, working), jobs.get(planned.name)))
            )
            states.append(
                StageState(
                    planned.name, planned.kind, state, tree_bytes(working.path), working.path
                )
            )
        else:
            state = jobs.get(planned.name, planned.because)
            states.append(StageState(planned.name, planned.kind, state, 0, None))
    return states


def encoded(store: Store) -> str | None:
    """Return what encoded rows take, of all recipes of a store; None without any."""
    folder = store.root / ENCODED
    if not folder.is_dir():
        return None
    return f"encoded rows of all recipes: {size(tree_bytes(folder))} in {folder}"
