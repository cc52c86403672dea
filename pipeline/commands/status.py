"""`posttrain status`: what is there of each stage, unfinished work included."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.files.sizes import tree_bytes
from pipeline.plan.plan import Plan, PlannedStage
from pipeline.store import checkpoints
from pipeline.store.attempt import attempt_at
from pipeline.store.store import Store, Working


@dataclass(frozen=True)
class StageState:
    """One stage as `status` shows it."""

    name: str
    kind: str
    state: str
    size_bytes: int
    folder: Path | None


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
            state = _unfinished(store, planned, working)
            states.append(
                StageState(
                    planned.name, planned.kind, state, tree_bytes(working.path), working.path
                )
            )
        else:
            states.append(StageState(planned.name, planned.kind, planned.because, 0, None))
    return states
