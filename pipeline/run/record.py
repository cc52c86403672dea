"""runs/<recipe>/ or runs/<recipe>/seed-N/: run.json, and a link to each stage's artifact."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import CorruptArtifactError
from pipeline.run.locks import held
from pipeline.run.manifest import read_sealed, write_sealed
from pipeline.run.store import Artifact, Store

if TYPE_CHECKING:
    from pipeline.run.plan import Plan
    from pipeline.run.runner import Outcome

RECORD = "run.json"
_TEXTS = ("kind", "fingerprint", "path", "status")
_ANEW = "delete it and run the recipe again, which writes it anew; `clean` goes by the links then"


def record_run(
    plan: "Plan",
    outcomes: "Sequence[Outcome]",
    done: Mapping[str, Artifact | None],
    store: Store,
) -> None:
    """Write the run's run.json and a link for each stage that is there.

    Under a lock: two runs of one recipe may come here at the same moment.
    """
    lock = store.lock_path(f"run-{plan.recipe.run_name.replace('/', '.')}")
    with held(lock):
        _record_run(plan, outcomes, done, store)


def _record_run(
    plan: "Plan",
    outcomes: "Sequence[Outcome]",
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
    names = {planned.name for planned in plan.stages}
    write_sealed(
        folder / RECORD,
        {
            "name": plan.recipe.name,
            "recipe": str(plan.recipe.path.resolve()),
            "seed": plan.recipe.seed,
            "stages": {name: stage for name, stage in stages.items() if name in names},
        },
    )


def last_run(store: Store, run_name: str) -> dict[str, dict[str, Any]]:
    """Return what runs/<run>/run.json says of each stage; empty when there is none."""
    path = store.runs / run_name / RECORD
    return read_record(path)["stages"] if os.path.lexists(path) else {}


def read_record(path: Path) -> dict[str, Any]:
    """Return what a run.json says; CorruptArtifactError for one that is not as it was written."""
    try:
        record = read_sealed(path)
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        raise CorruptArtifactError(str(path), said, _ANEW) from error
    except ValueError as error:
        raise CorruptArtifactError(str(path), str(error), _ANEW) from error
    if not _is_record(record):
        raise CorruptArtifactError(str(path), "is no record of a run", _ANEW)
    return record


def _is_record(record: Mapping[str, Any]) -> bool:
    named = isinstance(record.get("name"), str) and isinstance(record.get("recipe"), str)
    stages: Any = record.get("stages")
    if not named or not isinstance(record.get("seed"), int) or not isinstance(stages, dict):
        return False
    each = cast("list[Any]", list(cast("dict[str, Any]", stages).values()))
    return all(
        isinstance(stage, dict) and all(isinstance(stage.get(key), str) for key in _TEXTS)
        for stage in each
    )


def link_to(link: Path, target: Path) -> None:
    """Point a link at an artifact by one rename, so that it always points somewhere."""
    if link.is_symlink() and link.readlink() == target:
        return
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(link)
