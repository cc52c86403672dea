"""What a report is about: one run's stages, from a plan or from what runs/<recipe>/ recorded.

A plan knows the recipe as it is now; a run's folder knows what was made then, whatever became of
the recipe since. Reads artifact.json of each stage and no results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from eval.comparison.pool import PooledComparison
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.names import RECORD
from pipeline.report.comparison import hide_places
from pipeline.store.attempt import attempt_at
from pipeline.store.manifest import read_sealed
from pipeline.store.run_record import last_run, read_record
from pipeline.store.store import Artifact, Store, is_finished, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.recipe.yaml.document import Document
    from pipeline.store.attempt import Attempt

Status = Literal["ran", "resumed", "cached", "running", "stopped", "failed", "missing"]


@dataclass(frozen=True)
class ReportedStage:
    """One stage of the run.

    inputs: names of the stages it is built on. status: what the last run did about it. artifact:
    None where there is no result, `because` then says why. attempt, begun_in: of a stage that was
    begun and has no result yet: how far it is, and the folder that it writes into.
    """

    name: str
    kind: str
    fingerprint: str
    inputs: tuple[str, ...]
    status: Status
    artifact: Artifact | None
    because: str = ""
    attempt: Attempt | None = None
    begun_in: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where its files are, of a result or of what is there so far."""
        return self.begun_in if self.artifact is None else self.artifact.path

    @property
    def is_finished(self) -> bool:
        """Whether its files are a result, which must be whole."""
        return self.artifact is not None

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the stage measured; nothing where it is not there."""
        return {} if self.artifact is None else self.artifact.metrics


@dataclass(frozen=True)
class ReportedRun:
    """The stages in order, and what is known of the recipe.

    folder: below runs/, where the run is recorded. recipe_text: as the file is now; "" when it is
    gone. overrides: `--set` options of the plan. plan: None when only the record is known;
    no_plan says why.
    pooled: the files of `--seeds` that this run is part of, by the name of their compare stage.
    """

    name: str
    seed: int
    folder: Path
    stages: tuple[ReportedStage, ...]
    recipe: Path
    recipe_text: str
    overrides: tuple[str, ...] = ()
    plan: Plan | None = None
    no_plan: str = ""
    pooled: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def present(self) -> tuple[ReportedStage, ...]:
        """The stages whose results are there."""
        return tuple(stage for stage in self.stages if stage.artifact is not None)

    @property
    def begun(self) -> tuple[ReportedStage, ...]:
        """The stages that have written something: finished, running, stopped or failed."""
        return tuple(stage for stage in self.stages if stage.folder is not None)

    @property
    def under_way(self) -> tuple[ReportedStage, ...]:
        """The stages that were begun and are not finished."""
        return tuple(stage for stage in self.stages if stage.attempt is not None)


def run_of_plan(plan: Plan, store: Store, *, may_be_empty: bool = False) -> ReportedRun:
    """Return the run of a recipe as it is now, stages that are under way included.

    Raises PosttrainError when nothing of it was begun, unless it may be empty.
    """
    recipe = plan.recipe
    folder = store.runs / recipe.run_name
    last = last_run(store, recipe.run_name)

    def status(name: str, fingerprint: str) -> Status:
        before = last.get(name, {})
        return before["status"] if before.get("fingerprint") == fingerprint else "cached"

    def stage(planned: PlannedStage) -> ReportedStage:
        attempt = begun_in = None
        if planned.artifact is None:
            attempt = attempt_at(store, planned.kind, planned.fingerprint)
            begun_in = store.working(planned.kind, planned.fingerprint).out if attempt else None
        return ReportedStage(
            name=planned.name,
            kind=planned.kind,
            fingerprint=planned.fingerprint,
            inputs=planned.inputs,
            status=status(planned.name, planned.fingerprint)
            if planned.artifact
            else attempt.state
            if attempt
            else "missing",
            artifact=planned.artifact,
            because=planned.because,
            attempt=attempt,
            begun_in=begun_in,
        )

    stages = tuple(map(stage, plan.stages))
    if not may_be_empty and all(stage.folder is None for stage in stages):
        raise PosttrainError(
            str(recipe.path),
            "there is nothing to report: no stage of this recipe has run",
            f"first `posttrain run {recipe.path}`",
        )
    return ReportedRun(
        name=recipe.name,
        seed=recipe.seed,
        folder=folder,
        stages=stages,
        recipe=recipe.path,
        recipe_text=_text(recipe.path),
        overrides=tuple(_overrides(recipe.document.written or recipe.document)),
        plan=plan,
        pooled=_pooled(folder, stages),
    )


def _overrides(document: Document) -> Iterator[str]:
    """Yield what `--set` laid over a recipe, as KEY=VALUE."""
    for location in document.overridden:
        if any(location[:length] in document.overridden for length in range(len(location))):
            continue
        value: Any = document.value
        for part in location:
            value = value[part]
        yield f"{'.'.join(map(str, location))}={json.dumps(value)}"


def run_of_folder(folder: Path, *, plan: Plan | None = None, no_plan: str = "") -> ReportedRun:
    """Return the run that runs/<recipe>/ (or its seed-N/) recorded.

    plan: of the same recipe, when it can be made: the data that stages were trained on is read
    through it. no_plan: why it cannot. Raises PosttrainError where no record is,
    CorruptArtifactError for a broken result.
    """
    folder = run_folder(folder)
    record = read_record(folder / RECORD)
    store = Store(runs_of(folder))
    found = {
        name: _artifact(store, stage)
        for name, stage in cast("dict[str, Any]", record["stages"]).items()
    }
    names = {artifact.fingerprint: name for name, artifact in found.items() if artifact}
    recipe = Path(record["recipe"])
    stages = in_order(
        [
            _recorded(name, record["stages"][name], artifact, names)
            for name, artifact in found.items()
        ]
    )
    return ReportedRun(
        name=record["name"],
        seed=record["seed"],
        folder=folder,
        stages=stages,
        recipe=recipe,
        recipe_text=_text(recipe),
        plan=plan,
        no_plan=no_plan,
        pooled=_pooled(folder, stages),
    )


def runs_of_seeds(run: ReportedRun, seeds: Sequence[int]) -> tuple[ReportedRun, ...]:
    """Return a run with those of the other seeds that lie beside it; without seeds it alone."""
    folders = [run.folder.parent / f"seed-{seed}" for seed in seeds]
    found = [folder for folder in folders if (folder / RECORD).is_file()]
    return tuple(map(run_of_folder, found)) if found else (run,)


def first_seed(folder: Path) -> int | None:
    """Return the smallest seed of a run that was under several only; None for any other."""
    if (folder / RECORD).is_file():
        return None
    seeds = (path.parent.name.removeprefix("seed-") for path in folder.glob(f"seed-*/{RECORD}"))
    return min((int(seed) for seed in seeds if seed.isdecimal()), default=None)


def run_folder(folder: Path) -> Path:
    """Return the folder whose run.json speaks for a run: of several seeds, the first one's."""
    if (folder / RECORD).is_file():
        return folder
    seed = first_seed(folder)
    if seed is None:
        raise PosttrainError(
            str(folder),
            f"there is no {RECORD} in this folder",
            "name a recipe file, or the folder of a run: runs/<recipe>",
        )
    return folder / f"seed-{seed}"


def recorded_recipe(folder: Path) -> tuple[Path, int, bool]:
    """Return a run's recipe file, its seed, and whether it is one of several seeds."""
    record = read_record(run_folder(folder) / RECORD)
    return Path(record["recipe"]), record["seed"], run_folder(folder).name.startswith("seed-")


def runs_of(folder: Path) -> Path:
    """Return runs/ of a run's folder: the nearest folder above it that has a store."""
    above = folder.absolute().parents[:2]
    return next((path for path in above if (path / "store").is_dir()), above[0])


def _artifact(store: Store, stage: Mapping[str, Any]) -> Artifact | None:
    path = store.runs / stage["path"]
    return read(path) if is_finished(path) else None


def in_order(stages: Sequence[ReportedStage]) -> tuple[ReportedStage, ...]:
    """Return stages behind all that they are built on.

    A record has them in the order of the recipe, which may name a stage before what it needs.
    """
    by_name = {stage.name: stage for stage in stages}
    ordered: dict[str, ReportedStage] = {}

    def add(stage: ReportedStage) -> None:
        for name in stage.inputs:
            if name not in ordered:
                add(by_name[name])
        ordered[stage.name] = stage

    for stage in stages:
        if stage.name not in ordered:
            add(stage)
    return tuple(ordered.values())


def _recorded(
    name: str, stage: Mapping[str, Any], artifact: Artifact | None, names: Mapping[str, str]
) -> ReportedStage:
    """Return a stage of the record; an input's name is the one that the run gave it."""
    inputs = {} if artifact is None else artifact.inputs
    return ReportedStage(
        name=name,
        kind=stage["kind"],
        fingerprint=stage["fingerprint"],
        inputs=tuple(names[key] for key in inputs.values() if key in names),
        status=stage["status"] if artifact is not None else "missing",
        artifact=artifact,
        because="its result is gone" if artifact is None else "",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _pooled(folder: Path, stages: Sequence[ReportedStage]) -> dict[str, PooledComparison]:
    """Return the comparisons pooled over seeds that this run's are among, by stage."""
    above = folder.parent if folder.name.startswith("seed-") else folder
    found: dict[str, PooledComparison] = {}
    for stage in stages:
        path = above / "seeds" / f"{stage.name}.json"
        if stage.artifact is None or stage.artifact.produces != "comparison" or not path.is_file():
            continue
        try:
            pooled = PooledComparison.from_json(hide_places(read_sealed(path)))
            if stage.artifact.path.name in {Path(other).name for other in pooled.comparisons}:
                found[stage.name] = pooled
        except (OSError, ValueError) as error:
            hint = "delete it and run the recipe with --seeds again"
            raise CorruptArtifactError(str(path), f"is not readable ({error})", hint) from error
    return found
