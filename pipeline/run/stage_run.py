"""One stage brought about: found in the store, or locked, resumed, launched and published.

A stage that was killed resumes from its newest whole checkpoint, provided that nothing which could
change its numbers (batch split, processes, threads, library versions) has changed since.
"""

import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.checks.keeping import keeping_of
from pipeline.checks.overlaps import evaluations_of
from pipeline.config.blocks import LaunchBlock
from pipeline.config.references import BASE_FOLDER
from pipeline.errors import CorruptArtifactError, InterruptedRunError, PosttrainError
from pipeline.plan.followers import decontaminate_of
from pipeline.plan.plan import Plan, PlannedStage
from pipeline.recipe.launching import Processes, processes_of
from pipeline.recipe.recipe import Recipe
from pipeline.run.course import Course
from pipeline.run.interrupt import StopRequest
from pipeline.run.launch import Place, launch
from pipeline.run.outcomes import Outcome
from pipeline.run.request import Request, write_request
from pipeline.run.resume import Start, execution_of, prepare, version_of
from pipeline.run.slots import on_gpus
from pipeline.stages import stage_of
from pipeline.store.attempt import end_attempt, forget_attempt
from pipeline.store.hub_lock import read_lock
from pipeline.store.lineage import as_input, verify_closure
from pipeline.store.locks import hold_if_free
from pipeline.store.manifest import read_sealed
from pipeline.store.store import Artifact, Store, Working


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of a run.

    is_forced: run it although it is there. course: where it stands in the run; None where it is
    cached. threads: of its process; of each, where several share it. stop: whether the user has
    asked to stop. say: takes a line for the user. describe: says in a few words what came of a
    stage.
    """

    plan: Plan
    planned: PlannedStage
    store: Store
    is_forced: bool
    resume_anyway: bool
    course: Course | None
    threads: int
    stop: StopRequest
    say: Callable[[str], None]
    describe: Callable[[Artifact], str]

    @property
    def is_there(self) -> bool:
        """Whether its result is there already, and wanted."""
        return self.planned.artifact is not None and not self.is_forced

    @property
    def has_own_processes(self) -> bool:
        """Whether it starts processes of its own."""
        return launch_block(self.plan.recipe, self.planned).launcher != "in_process"

    def find(self, artifact: Artifact) -> Outcome:
        """Take a result that is there already."""
        planned = self.planned
        _sweep(self.store, planned.kind, planned.fingerprint)
        although = f", although {planned.although}" if planned.although else ""
        self._say_result(f"cached{although}", artifact)
        return Outcome(planned.name, "cached", artifact, 0.0)

    def bring_about(
        self, made: Mapping[str, Artifact | None], place: Place | None = None
    ) -> Outcome:
        """Find the stage's result or make it; made: the results that are there, by stage.

        place: where it runs beside others.
        """
        planned, store = self.planned, self.store
        name, kind, key = planned.name, planned.kind, planned.fingerprint
        if planned.artifact is not None and not self.is_forced:
            return self.find(planned.artifact)
        with store.lock(kind, key, on_wait=self._tell_owner()) as lock:
            artifact = store.find(kind, key)
            if artifact is not None and not self.is_forced:
                self._say("cached (another process has just finished it)")
                return Outcome(name, "cached", artifact, 0.0)
            inputs = {needed: result for needed in planned.inputs if (result := made[needed])}
            for result in inputs.values():
                verify_closure(result)
            return self._make(inputs, lock, place)

    def _make(self, inputs: Mapping[str, Artifact], lock: int, place: Place | None) -> Outcome:
        """Run the stage under its lock and publish what it made."""
        planned, store = self.planned, self.store
        working = store.working(planned.kind, planned.fingerprint)
        block = launch_block(self.plan.recipe, planned)
        processes = processes_of(self.plan.recipe, planned.config)
        execution = execution_of(
            planned.config,
            block.launcher,
            processes.count,
            processes.sharding,
            threads=self.threads,
        )
        start = prepare(working, planned.fingerprint, execution, resume_anyway=self.resume_anyway)
        for note in start.notes:
            self._say(note)
        request = self._request(inputs, execution, processes, start)
        write_request(working.request, request)
        words = _starting_words(planned, start)
        where = on_gpus(place.devices) if place else ""
        self._say(f"{words}{where}{self.course.place if self.course else ''}")
        started_s = time.monotonic()
        with _note_ending(working):
            launch(
                *(working, request, block.launcher, processes),
                stop=self.stop,
                lock=lock,
                place=place,
            )
        seconds = time.monotonic() - started_s
        artifact = _publish(planned, inputs, working, store, execution, seconds, start)
        self._say_result(f"done in {seconds:.0f} s", artifact)
        for line in artifact.metrics.get("overlaps", ()):
            self._say(line)
        return Outcome(planned.name, "resumed" if start.checkpoint else "ran", artifact, seconds)

    def _request(
        self,
        inputs: Mapping[str, Artifact],
        execution: Mapping[str, Any],
        processes: Processes,
        start: Start,
    ) -> Request:
        """Return everything that the worker needs to know."""
        recipe, planned = self.plan.recipe, self.planned
        commits = {key.partition("/")[2]: commit for key, commit in read_lock(recipe.path).items()}
        return Request(
            run=recipe.run_name,
            name=planned.name,
            config=planned.config,
            seed=recipe.seed if planned.config.seed is None else planned.config.seed,
            inputs={name: as_input(artifact, name) for name, artifact in inputs.items()},
            places=replace(recipe.places, revisions=commits),
            execution=execution,
            fingerprint=planned.fingerprint,
            identity=planned.identity,
            processes=processes.count,
            sharding=processes.sharding,
            decontaminate=decontaminate_of(recipe, planned.name),
            measured_by=evaluations_of(recipe, planned.name),
            resume_from=start.checkpoint,
            is_exact=start.is_exact,
            answers=self.store.answers,
            keeping=keeping_of(self.plan, planned.name, self.store),
            course=self.course,
        )

    def _tell_owner(self) -> Callable[[str], None]:
        """Return what says once who holds the stage's lock, and ends the wait on request."""
        is_told = False

        def on_wait(owner: str) -> None:
            nonlocal is_told
            if self.stop.is_requested:
                name = self.planned.name
                raise InterruptedRunError(name, "stopped while another process is at it")
            if not is_told:
                self._say(f"waiting for {owner or 'another process'}, which is at it")
            is_told = True

        return on_wait

    def _say_result(self, words: str, artifact: Artifact) -> None:
        self._say(f"{words:<14} {self.describe(artifact)}".rstrip())

    def _say(self, words: str) -> None:
        self.say(f"{self.planned.name:<14} {words}")


@contextmanager
def _note_ending(working: Working) -> Generator[None]:
    """Note in the working folder how an attempt ended that did not come to its end."""
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
    """Drop the working folder of a published stage, which a kill right after publishing left.

    It has no `out/`, unlike that of a forced rerun which was stopped.
    """
    working = store.working(kind, key)
    if working.path.exists() and not working.out.exists():
        with (
            suppress(OSError),  # it only takes up room; the next run tries again
            hold_if_free(store.lock_path(working.path.name)) as owner,
        ):
            if owner is None and not working.out.exists():
                shutil.rmtree(working.path)


def _starting_words(planned: PlannedStage, start: Start) -> str:
    if start.checkpoint is not None:
        return f"resumes from {start.checkpoint.name}"
    return f"runs ({planned.because})" if planned.because else "runs again (--force)"


def launch_block(recipe: Recipe, planned: PlannedStage) -> LaunchBlock:
    """Return how to start a stage: as it says, else as the recipe does, if it can share work."""
    block = planned.config.launch or recipe.launch
    if block.launcher == "accelerate" and not stage_of(planned.kind).is_distributed:
        return LaunchBlock.model_validate({"with": "python"})
    return block


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
        "inputs": {name: artifact.fingerprint for name, artifact in inputs.items()},
        "properties": _add_relative_base(result["properties"], folder),
        "metrics": result["metrics"],
        "provenance": {
            "posttrain": version_of("posttrain"),
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
        message = "is missing, although the stage's process ended without an error"
        raise CorruptArtifactError(str(working.result), message, "run again") from error
    except ValueError as error:
        raise CorruptArtifactError(str(working.result), str(error), "run again") from error


def _add_relative_base(properties: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stage's properties, with the path of a model outside also relative to its artifact.

    The relative one holds when store and model are moved together, the absolute one when the store
    alone is.
    """
    base = properties.get(BASE_FOLDER)
    if base is None:
        return dict(properties)
    return {**properties, BASE_FOLDER: [os.path.relpath(base, folder.resolve()), base]}
