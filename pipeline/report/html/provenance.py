"""How a run came about and how to repeat it: commands, fingerprints, seeds, versions, times."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.commands.export import without_places
from pipeline.report.point_rows import name_together
from pipeline.store.fingerprint import SHORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.report.html.run_source import ReportedRun, ReportedStage


@dataclass(frozen=True)
class StageRecord:
    """One stage's line; seconds, size_bytes: None where it is not there."""

    name: str
    kind: str
    status: str
    fingerprint: str
    seed: str
    seconds: float | None
    size_bytes: int | None
    finished: str
    is_exact: bool
    because: str


@dataclass(frozen=True)
class Provenance:
    """commands: (what for, the command). versions: (library, version or versions).

    not_there: names of stages without a result, those of a sweep as one. changed: likewise, of
    those that are there, and that the recipe as it is now would make anew.
    """

    commands: tuple[tuple[str, str], ...]
    stages: tuple[StageRecord, ...]
    versions: tuple[tuple[str, str], ...]
    total_seconds: float
    not_there: tuple[str, ...]
    changed: tuple[str, ...]


def provenance(run: ReportedRun) -> Provenance:
    """Return what the last section shows."""
    return Provenance(
        commands=_commands(run),
        stages=tuple(_record(stage) for stage in run.stages),
        versions=_versions(run),
        total_seconds=sum(
            stage.artifact.provenance.get("seconds") or 0.0
            for stage in run.stages
            if stage.artifact is not None
        ),
        not_there=tuple(
            name_together([stage.name for stage in run.stages if stage.artifact is None])
        ),
        changed=tuple(name_together(list(_changed(run)))),
    )


def _changed(run: ReportedRun) -> Iterator[str]:
    if run.plan is not None:
        now = {planned.name: planned.fingerprint for planned in run.plan.stages}
        yield from (each.name for each in run.present if now.get(each.name) != each.fingerprint)


def _commands(run: ReportedRun) -> tuple[tuple[str, str], ...]:
    recipe = shlex.quote(run.recipe.name)
    overrides = "".join(f" --set {shlex.quote(option)}" for option in run.overrides)
    seeds = next((pooled.seeds for pooled in run.pooled.values()), ())
    several = f" --seeds {','.join(str(seed) for seed in seeds)}" if seeds else ""
    roots = "" if run.plan is None else _roots(run.plan.recipe.places.roots)
    last = shlex.quote(run.stages[-1].name)
    return (
        ("make everything again", f"posttrain run {recipe}{overrides}{several}{roots}"),
        (
            "why a stage would run again",
            f"posttrain why {recipe} {last}{overrides}{roots}",
        ),
        ("this report", f"posttrain report {recipe}{overrides}{roots} --open"),
    )


def _roots(roots: Mapping[str, Any]) -> str:
    return "".join(f" --root {shlex.quote(name)}=DIR" for name in roots)


def _record(stage: ReportedStage) -> StageRecord:
    artifact = stage.artifact
    told = {} if artifact is None else artifact.provenance
    seed = None if artifact is None else artifact.identity.get("seed")
    return StageRecord(
        name=stage.name,
        kind=stage.kind,
        status=stage.status,
        fingerprint=stage.fingerprint[:SHORT],
        seed="" if seed is None else str(seed),
        seconds=told.get("seconds"),
        size_bytes=None if artifact is None else artifact.size_bytes,
        finished=str(told.get("finished", "")).replace("T", " ").removesuffix("Z"),
        is_exact=bool(told.get("exact", True)),
        because=str(without_places(stage.because or str(told.get("because", "")))),
    )


def _versions(run: ReportedRun) -> tuple[tuple[str, str], ...]:
    """Return each library with its version, or with all that stages were made with."""
    found: dict[str, dict[str, None]] = {}
    for stage in run.present:
        assert stage.artifact is not None
        told = stage.artifact.provenance
        execution = told.get("execution") or {}
        versions = {"posttrain": told.get("posttrain"), "Python": execution.get("python")}
        versions |= execution.get("versions") or {}
        versions |= {"machine": execution.get("machine")}
        for name, version in versions.items():
            if version:
                found.setdefault(str(name), {})[str(version)] = None
    return tuple((name, " and ".join(versions)) for name, versions in found.items())
