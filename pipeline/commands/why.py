"""`posttrain why`: what separates a stage from its last result, followed to its cause."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan.plan import Plan, PlannedStage, changes
from pipeline.store.run_record import last_run
from pipeline.store.store import Store

_INPUT = ".artifact: "


def why(plan: Plan, store: Store, name: str) -> list[str]:
    """Return what separates a stage from its last result, one line per difference or cause."""
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
        for needed in planned.inputs:
            inner = plan.stage(needed)
            if inner.fingerprint != last.get(needed, {}).get("fingerprint"):
                yield f"{planned.name}: is built on {needed}, which changed"
                yield from _causes(plan, inner, last, store)
