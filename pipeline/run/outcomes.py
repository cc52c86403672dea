"""What became of a run's stages, written into its folder: run.json and a link to each artifact.

The folder is runs/<recipe>/, with --seeds runs/<recipe>/seed-N/. Reading run.json is
store/run_record.py's subject.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.files.names import RECORD
from pipeline.store.locks import hold
from pipeline.store.manifest import write_sealed
from pipeline.store.run_record import last_run
from pipeline.store.store import Artifact, Store

if TYPE_CHECKING:
    from pipeline.plan.plan import Plan


@dataclass(frozen=True)
class Outcome:
    """What became of one stage of a run."""

    name: str
    status: Literal["cached", "ran", "resumed"]
    artifact: Artifact
    seconds: float


def record_run(
    plan: "Plan",
    outcomes: Sequence[Outcome],
    done: Mapping[str, Artifact | None],
    store: Store,
) -> None:
    """Write the run's run.json and a link for each stage that is there.

    Under a lock: two runs of one recipe may come here at the same moment.
    """
    lock = store.lock_path(f"run-{plan.recipe.run_name.replace('/', '.')}")
    with hold(lock):
        _record_run(plan, outcomes, done, store)


def _record_run(
    plan: "Plan",
    outcomes: Sequence[Outcome],
    done: Mapping[str, Artifact | None],
    store: Store,
) -> None:
    folder = store.runs / plan.recipe.run_name
    folder.mkdir(parents=True, exist_ok=True)
    stages = last_run(store, plan.recipe.run_name)
    ran = {outcome.name: outcome for outcome in outcomes}
    for planned in plan.stages:
        artifact = done[planned.name]
        if artifact is None:
            continue
        link = folder / planned.name
        link_to(link, Path(os.path.relpath(artifact.path, folder)))
        outcome = ran.get(planned.name)
        stages[planned.name] = {
            "kind": planned.kind,
            "fingerprint": planned.fingerprint,
            "path": str(artifact.path.relative_to(store.runs)),
            "status": outcome.status if outcome else "cached",
            "seconds": artifact.provenance["seconds"],
            "metrics": dict(artifact.metrics),
        }
    in_order = [planned.name for planned in plan.stages if planned.name in stages]
    write_sealed(
        folder / RECORD,
        {
            "name": plan.recipe.name,
            "recipe": str(plan.recipe.path.resolve()),
            "seed": plan.recipe.seed,
            "stages": {name: stages[name] for name in in_order},
        },
    )


def link_to(link: Path, target: Path) -> None:
    """Point a link at an artifact by one rename, so that it always points somewhere."""
    if link.is_symlink() and link.readlink() == target:
        return
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(link)
