"""Walks a plan: lock, launch, publish, link; stops cleanly and says what happened.

A stage that is there already costs nothing. One that was killed goes on from its newest whole
checkpoint, provided that nothing which could change its numbers (batch split, processes, threads,
library versions) has changed since.
"""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checks.check import check_recipe_data, check_trackers
from pipeline.checks.models import check_models
from pipeline.checks.overlaps import as_json, check_overlaps, evaluations_of, to_hold_against
from pipeline.checks.questions import check_questions
from pipeline.checks.rows import UncheckedRows, check_rows
from pipeline.config.blocks import LaunchBlock
from pipeline.config.references import BASE_FOLDER
from pipeline.data.encoding.lengths import account
from pipeline.errors import CorruptArtifactError, InterruptedRunError, PosttrainError, closest
from pipeline.files.disk import one_line
from pipeline.plan.cores import check_machine
from pipeline.plan.disk_space import disk_space
from pipeline.plan.followers import decontaminate_of
from pipeline.plan.plan import Plan, PlannedStage, make, schedule_of
from pipeline.plan.room import check_room
from pipeline.recipe.launching import processes_of
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.remarks import remarks
from pipeline.run.course import Course, course_of
from pipeline.run.interrupt import StopRequest, stop_requests
from pipeline.run.launch import launch
from pipeline.run.record import Outcome, record_run
from pipeline.run.resume import Start, execution_of, installed_version, prepare
from pipeline.stages import stage_of
from pipeline.store import hub_lock
from pipeline.store.attempt import end_attempt, forget_attempt
from pipeline.store.lineage import verify_closure
from pipeline.store.locks import held_if_free
from pipeline.store.manifest import read_sealed, write_json
from pipeline.store.record import last_run
from pipeline.store.store import Artifact, Store, Working

Say = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """Which stages to run, all unless something is said.

    only: this one and nothing else. start: this one and what follows from it. until: this one and
    what it is built on. force: run the selected ones again although they are there, but for those
    whose fingerprint is in `spared`.
    """

    only: str | None = None
    start: str | None = None
    until: str | None = None
    force: bool = False
    spared: frozenset[str] = frozenset()

    def forces(self, planned: PlannedStage) -> bool:
        """Whether a stage is run again although it is there."""
        return self.force and planned.fingerprint not in self.spared

    def stages(self, plan: Plan) -> list[str]:
        """Return the selected names, in order; PosttrainError for an unknown one."""
        names = [planned.name for planned in plan.stages]
        for name in (self.only, self.start, self.until):
            if name is not None and name not in names:
                hint = closest(name, names) or f"stages are {', '.join(names)}"
                raise PosttrainError(str(plan.recipe.path), f"there is no stage `{name}`", hint)
        if self.only is not None:
            return [self.only]
        closure = schedule_of(plan)
        if self.start is not None:
            names = [name for name in names if name == self.start or self.start in closure[name]]
        if self.until is not None:
            needed = closure[self.until]
            names = [name for name in names if name == self.until or name in needed]
        return names


@one_line("posttrain run")
def run(
    recipe: Recipe,
    store: Store,
    *,
    selection: Selection | None = None,
    resume_anyway: bool = False,
    say: Say = lambda line: None,
) -> list[Outcome]:
    """Run what the plan says is missing and return what became of every selected stage.

    Raises PosttrainError for what the user can mend, InterruptedRunError when asked to stop,
    InfrastructureError where a disk refuses.
    """
    plan = make(recipe, store)
    if plan.unresolved:
        known = hub_lock.read_lock(recipe.path)
        hub_lock.resolve(recipe.path, sorted(plan.unresolved), known)
        plan = make(recipe, store)
    selection = selection or Selection()
    selected = selection.stages(plan)
    pending = [
        name
        for name in selected
        if plan.stage(name).status != "cached" or selection.forces(plan.stage(name))
    ]
    check_machine(recipe, pending)
    check_room(plan, pending)
    for name in pending:
        for remark in remarks(recipe.stages[name]):
            say(f"{name:<14} {remark}")
    if pending and (warning := disk_space(plan, pending).warning()):
        say(f"{'disk':<14} {warning}")
    check_trackers(recipe, pending)
    for _ in check_recipe_data(recipe, pending):
        pass  # a bad row is found before the first stage runs; only `check` counts the good ones
    for line in check_overlaps(recipe, to_hold_against(recipe, pending)):
        say(line)
    check_questions(recipe, pending)
    outcomes: list[Outcome] = []
    done = {planned.name: planned.artifact for planned in plan.stages}
    check_models(plan, pending, done, fetches=True)
    unchecked = _check_rows(plan, pending, done, say=say)
    if pending and any(done.values()):
        record_run(plan, outcomes, done, store)  # `clean` keeps what this run builds on
    kinds = {planned.name: planned.kind for planned in plan.stages}
    with stop_requests() as stop:
        for name in selected:
            planned = plan.stage(name)
            for needed in planned.inputs:
                if done[needed] is None:
                    raise PosttrainError(
                        str(recipe.path),
                        f"`{name}` is built on `{needed}`, which has not run",
                        f"leave out --stage/--from, or run --stage {needed} first",
                    )
            outcome = _one(
                plan,
                planned,
                done,
                store,
                force=selection.forces(planned),
                resume_anyway=resume_anyway,
                stop=stop,
                say=say,
                course=course_of(name, pending, kinds, last_run(store, recipe.run_name)),
            )
            done[name] = outcome.artifact
            outcomes.append(outcome)
            record_run(plan, outcomes, done, store)
            if stop.is_requested:
                raise InterruptedRunError(name, "stopped on request", "run again to go on")
            later = [each for each in unchecked if each != name]
            unchecked = _check_rows(plan, later, done, say=say)
    return outcomes


def _check_rows(
    plan: Plan, names: Iterable[str], made: Mapping[str, Artifact | None], *, say: Say
) -> list[str]:
    """Encode rows before their stages run, say which are lost; return what cannot be told yet."""
    unchecked: list[str] = []
    for found in check_rows(plan, names, made, fetches=True):
        if isinstance(found, UncheckedRows):
            unchecked.append(found.name)
        elif found.is_warning:
            say(f"{found.name:<14} warning: {account(found.metrics)}")
    return unchecked


def _one(
    plan: Plan,
    planned: PlannedStage,
    done: Mapping[str, Artifact | None],
    store: Store,
    *,
    force: bool,
    resume_anyway: bool,
    stop: StopRequest,
    say: Say,
    course: Course | None,
) -> Outcome:
    """Bring one stage about, or find it there."""
    name, kind, key = planned.name, planned.kind, planned.fingerprint
    if planned.artifact is not None and not force:
        _sweep(store, kind, key)
        say(f"{name:<14} cached{f', although {planned.although}' if planned.although else ''}")
        return Outcome(name, "cached", planned.artifact, 0.0)

    is_told = False

    def on_wait(owner: str) -> None:
        nonlocal is_told
        if stop.is_requested:
            raise InterruptedRunError(name, "stopped while another process is at it")
        if not is_told:
            say(f"{name:<14} waiting for {owner or 'another process'}, which is at it")
        is_told = True

    with store.lock(kind, key, on_wait=on_wait) as lock:
        artifact = store.find(kind, key)
        if artifact is not None and not force:
            say(f"{name:<14} cached (another process has just finished it)")
            return Outcome(name, "cached", artifact, 0.0)
        inputs = {needed: found for needed in planned.inputs if (found := done[needed])}
        for found in inputs.values():
            verify_closure(found)
        working = store.working(kind, key)
        block = _launch_block(plan.recipe, planned)
        processes = processes_of(plan.recipe, planned.config)
        execution = execution_of(planned.config, block.launcher, processes.count)
        start = prepare(working, key, execution, resume_anyway=resume_anyway)
        for note in start.notes:
            say(f"{name:<14} {note}")
        _write_request(
            plan.recipe, planned, inputs, working, execution, processes.count, start, course
        )
        say(f"{name:<14} {_starting(planned, start)}{course.place if course else ''}")
        started_s = time.monotonic()
        with _told(working):
            launch(working, block, processes, stop=stop, lock=lock)
        seconds = time.monotonic() - started_s
        artifact = _publish(planned, inputs, working, store, execution, seconds, start)
    say(f"{name:<14} done in {seconds:.0f} s")
    for line in artifact.metrics.get("overlaps", ()):
        say(f"{name:<14} {line}")
    return Outcome(name, "resumed" if start.checkpoint else "ran", artifact, seconds)


@contextmanager
def _told(working: Working) -> Generator[None]:
    """Leave word in the working folder of how an attempt ended that does not come to its end."""
    forget_attempt(working)
    try:
        yield
    except InterruptedRunError as error:
        end_attempt(working, "stopped", error.message)
        raise
    except PosttrainError as error:
        end_attempt(working, "failed", str(error))
        raise
    except Exception as error:
        end_attempt(working, "failed", f"{type(error).__name__}: {error}")
        raise


def _sweep(store: Store, kind: str, key: str) -> None:
    """Drop the working folder of a published stage, which a kill right after that left.

    It has no `out/`, unlike that of a forced rerun which was stopped.
    """
    working = store.working(kind, key)
    if working.path.exists() and not working.out.exists():
        with (
            suppress(OSError),  # it only takes room; the next run tries again
            held_if_free(store.lock_path(working.path.name)) as owner,
        ):
            if owner is None and not working.out.exists():
                shutil.rmtree(working.path)


def _starting(planned: PlannedStage, start: Start) -> str:
    if start.checkpoint is not None:
        return f"resumes from {start.checkpoint.name}"
    return f"runs ({planned.because})" if planned.because else "runs again (--force)"


def _launch_block(recipe: Recipe, planned: PlannedStage) -> LaunchBlock:
    """Return how to start it: as the stage says, else the recipe; unless it cannot share work."""
    block = planned.config.launch or recipe.launch
    if block.launcher == "accelerate" and not stage_of(planned.kind).is_distributed:
        return LaunchBlock.model_validate({"with": "python"})
    return block


def _write_request(
    recipe: Recipe,
    planned: PlannedStage,
    inputs: Mapping[str, Artifact],
    working: Working,
    execution: Mapping[str, Any],
    processes: int,
    start: Start,
    course: Course | None,
) -> None:
    """Write stage.json: everything the worker needs to know."""
    outputs = {
        name: {
            "name": name,
            "kind": found.produces,
            "path": str(found.path.resolve()),
            "properties": dict(found.properties),
            "artifact": found.path.name,
        }
        for name, found in inputs.items()
    }
    seed = recipe.seed if planned.config.seed is None else planned.config.seed
    write_json(
        working.request,
        {
            "run": recipe.run_name,
            "name": planned.name,
            "kind": planned.kind,
            "fingerprint": planned.fingerprint,
            "identity": planned.identity,
            "config": planned.config.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "seed": seed,
            "outputs": outputs,
            "base": str(recipe.places.base),
            "elsewhere": str(recipe.places.elsewhere) if recipe.places.elsewhere else None,
            "roots": {name: str(path) for name, path in recipe.places.roots.items()},
            "revisions": {
                key.partition("/")[2]: commit
                for key, commit in hub_lock.read_lock(recipe.path).items()
            },
            "execution": execution,
            "processes": processes,
            "decontaminate": decontaminate_of(recipe, planned.name),
            "measured_by": [as_json(each) for each in evaluations_of(recipe, planned.name)],
            "resume_from": str(start.checkpoint) if start.checkpoint else None,
            "is_exact": start.is_exact,
            "course": None if course is None else course.to_json(),
        },
    )


def _publish(
    planned: PlannedStage,
    inputs: Mapping[str, Artifact],
    working: Working,
    store: Store,
    execution: Mapping[str, Any],
    seconds: float,
    start: Start,
) -> Artifact:
    result = _read_result(working)
    folder = store.folder(planned.kind, planned.fingerprint)
    record = {
        "name": planned.name,
        "kind": planned.kind,
        "produces": stage_of(planned.kind).produces,
        "fingerprint": planned.fingerprint,
        "identity": planned.identity,
        "inputs": {name: found.fingerprint for name, found in inputs.items()},
        "properties": _with_way(result["properties"], folder),
        "metrics": result["metrics"],
        "provenance": {
            "posttrain": installed_version("posttrain"),
            "execution": execution,
            "world_size": result["world_size"],
            "seconds": round(seconds, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "because": planned.because or "--force",
            "exact": start.is_exact,
        },
    }
    return store.publish(working, record=record)


def _read_result(working: Working) -> dict[str, Any]:
    """Return what the worker wrote last."""
    try:
        return read_sealed(working.result)
    except FileNotFoundError as error:
        said = "is missing, although the stage's process ended without an error"
        raise CorruptArtifactError(str(working.result), said, "run again") from error
    except ValueError as error:
        raise CorruptArtifactError(str(working.result), str(error), "run again") from error


def _with_way(properties: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stage's properties, the place of a model outside also as a way from its artifact.

    It holds when store and model are moved together; the place itself when the store alone is.
    """
    base = properties.get(BASE_FOLDER)
    if base is None:
        return dict(properties)
    return {**properties, BASE_FOLDER: [os.path.relpath(base, folder.resolve()), base]}
