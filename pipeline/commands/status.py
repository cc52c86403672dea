"""Questions about what is on disk: why a stage runs again, what is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files.disk import tree_bytes
from pipeline.plan.plan import Plan, PlannedStage, changes
from pipeline.store import checkpoints
from pipeline.store.attempt import attempt_at
from pipeline.store.record import last_run
from pipeline.store.store import Store, Working

_INPUT = ".artifact: "


def why(plan: Plan, store: Store, name: str) -> list[str]:
    """Return, a line each, what separates a stage from its last result, followed to its cause."""
    last = last_run(store, plan.recipe.run_name)
    planned = plan.stage(name)
    if planned.artifact is not None:
        because = planned.artifact.provenance.get("because") or "not recorded"
        return [f"{name}: is there ({planned.artifact.path}); it was made because: {because}"]
    return list(_causes(plan, planned, last, store))


def _causes(
    plan: Plan, planned: PlannedStage, last: Mapping[str, Any], store: Store
) -> Iterator[str]:
    differences = changes(planned, last, store)
    if differences is None:
        yield f"{planned.name}: {planned.because}"
        return
    for line in differences:
        if _INPUT not in line:
            yield f"{planned.name}: {line}"
    if any(_INPUT in line for line in differences):
        for other in planned.inputs:
            inner = plan.stage(other)
            if inner.fingerprint != last.get(other, {}).get("fingerprint"):
                yield f"{planned.name}: is built on {other}, which changed"
                yield from _causes(plan, inner, last, store)


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
    found = checkpoints.newest_whole(working.checkpoints)
    safe = f"step {found.step} is safe" if found.path else ""
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
