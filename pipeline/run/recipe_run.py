"""One recipe on its way through a run: its plan, what is selected of it, and what has come of it.

In what order its stages begin is runner.py's subject, what a stage takes stage_run.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from pipeline.checks.data import check_recipe_data
from pipeline.checks.keeping import note_checked, was_checked
from pipeline.checks.laws import check_laws
from pipeline.checks.models import check_models
from pipeline.checks.overlaps import check_overlaps, stages_to_compare
from pipeline.checks.questions import check_questions
from pipeline.checks.rows import UncheckedRows, check_rows
from pipeline.checks.slurm import check_options
from pipeline.checks.trackers import check_trackers
from pipeline.data.encoding.lengths import describe_rows
from pipeline.errors import InterruptedRunError, PosttrainError
from pipeline.machine import threads_of
from pipeline.plan.disk_space import disk_space
from pipeline.plan.plan import make
from pipeline.plan.room import check_processes, check_room
from pipeline.recipe.checks.judges import asked_blocks, check_judges
from pipeline.recipe.launching import processes_of
from pipeline.recipe.remarks import remarks
from pipeline.recipe.slurm import is_on_slurm
from pipeline.run.course import Course, course_of, likely_seconds
from pipeline.run.outcomes import Outcome, record_run
from pipeline.run.progress import show_progress
from pipeline.run.stage_run import StageRun, launch_block
from pipeline.store import hub_lock
from pipeline.store.run_record import last_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pipeline.checks.rows import Tell
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.recipe.recipe import Recipe
    from pipeline.run.interrupt import StopRequest
    from pipeline.run.selection import Selection
    from pipeline.store.store import Artifact, Store

Say = Callable[[str], None]


@dataclass(kw_only=True)
class RecipeRun:
    """A recipe's run. say: takes each line for the user. describe: says what came of a stage.

    selected: its stages, in order; pending: those that are not there, or are forced. made: the
    results that are there, by stage. num_begun: of those pending. unchecked: whose rows cannot be
    encoded yet.
    """

    plan: Plan
    store: Store
    selection: Selection
    resume_anyway: bool
    say: Say
    describe: Callable[[Artifact], str]
    selected: list[str] = field(init=False)
    pending: list[str] = field(init=False)
    made: dict[str, Artifact | None] = field(init=False)
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    num_begun: int = 0
    unchecked: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.selected = self.selection.stages(self.plan)
        self.pending = [
            name
            for name in self.selected
            if self.plan.stage(name).status != "cached"
            or self.selection.forces(self.plan.stage(name))
        ]
        self.made = {planned.name: planned.artifact for planned in self.plan.stages}

    @property
    def recipe(self) -> Recipe:
        """The recipe, which finds the rows that finished stages made."""
        return self.plan.recipe

    def check(self) -> None:
        """Check what can be known to be wrong before anything runs, as `posttrain check` does."""
        recipe, pending = self.recipe, self.pending
        if is_on_slurm(recipe):  # which machine has room for it, Slurm knows
            check_options(recipe, pending)
        else:
            check_processes(recipe, pending)
            check_room(self.plan, pending)
        for name in pending:
            for remark in remarks(recipe.stages[name]):
                self.say(f"{name:<14} {remark}")
        if pending and (warning := disk_space(self.plan, pending).warning()):
            self.say(f"{'disk':<14} {warning}")
        check_trackers(recipe, pending)
        check_judges(recipe, pending)
        check_laws(self.plan, pending)
        unread = [name for name in pending if not was_checked(self.plan, name, self.store)]
        for _ in check_recipe_data(recipe, unread):
            pass  # a bad row is found before the first stage runs; only `check` counts good ones
        for name in unread:
            note_checked(self.plan, name, self.store)
        for line in check_overlaps(recipe, stages_to_compare(recipe, pending)):
            self.say(line)
        check_questions(recipe, pending)
        check_models(self.plan, pending, self.made, fetches=True)
        with show_progress("check") as show:
            self._check_rows(pending, lambda _, *progress: show(*progress))
        if pending and any(self.made.values()):
            self._record()  # `clean` keeps what this run builds on

    def _check_rows(self, names: Iterable[str], tell: Tell) -> None:
        """Encode rows before their stages run, say which are lost, note what cannot be told yet."""
        self.unchecked = []
        checked = check_rows(self.plan, names, self.made, fetches=True, store=self.store, tell=tell)
        for rows in checked:
            if isinstance(rows, UncheckedRows):
                self.unchecked.append(rows.name)
            elif rows.is_warning:
                self.say(f"{rows.name:<14} warning: {describe_rows(rows.metrics)}")

    def is_there(self, name: str) -> bool:
        """Whether a stage need not run."""
        return name not in self.pending

    def runs_alone(self, name: str, num_devices: int = 0) -> bool:
        """Whether nothing may run beside a stage: it asks a server, or shares all cores out itself.

        num_devices: how many GPUs it has for itself; its processes leave the others alone then.
        """
        if is_on_slurm(self.recipe):  # each has a machine of its own
            return False
        planned = self.plan.stage(name)
        asks = any(block.endpoint is not None for _, block in asked_blocks(planned.config))
        has_own = launch_block(self.recipe, planned).launcher != "in_process"
        return asks or (has_own and not num_devices)

    def likely_seconds(self) -> dict[str, float | None]:
        """Return how long each selected stage may take; None if unknown."""
        last = last_run(self.store, self.recipe.run_name)
        kinds = {planned.name: planned.kind for planned in self.plan.stages}
        return {name: likely_seconds(name, kinds[name], last) for name in self.selected}

    def stage_run(self, name: str, *, at_once: int, stop: StopRequest) -> StageRun:
        """Return what brings a stage about.

        at_once: how many stages the cores are for. Raises PosttrainError where it is built on one
        that has not run.
        """
        planned = self.plan.stage(name)
        if name in self.pending:
            self._check_inputs(planned)
        processes = processes_of(self.recipe, planned.config).count
        return StageRun(
            plan=self.plan,
            planned=planned,
            store=self.store,
            is_forced=self.selection.forces(planned),
            resume_anyway=self.resume_anyway,
            course=self._course(name, at_once),
            threads=self.recipe.threads or threads_of(processes * at_once),
            stop=stop,
            say=self.say,
            describe=self.describe,
        )

    def _course(self, name: str, at_once: int) -> Course | None:
        if name in self.pending:
            self.num_begun += 1
        if at_once > 1:  # they do not come in the recipe's order
            return Course(self.num_begun, len(self.pending), None)
        kinds = {planned.name: planned.kind for planned in self.plan.stages}
        return course_of(name, self.pending, kinds, last_run(self.store, self.recipe.run_name))

    def check_inputs(self) -> None:
        """Raise PosttrainError where a stage is built on one that is not there and will not run."""
        for name in self.pending:
            self._check_inputs(self.plan.stage(name), self.pending)

    def tell(self, name: str, words: str) -> None:
        """Say something of a stage."""
        self.say(f"{name:<14} {words}")

    def _check_inputs(self, planned: PlannedStage, coming: Collection[str] = ()) -> None:
        for needed in planned.inputs:
            if self.made[needed] is None and needed not in coming:
                raise PosttrainError(
                    str(self.recipe.path),
                    f"`{planned.name}` is built on `{needed}`, which has not run",
                    f"leave out --stage/--from, or run --stage {quote(needed)} first",
                )

    def take(self, outcome: Outcome) -> None:
        """Note what became of a stage, here and in the run's folder."""
        self.made[outcome.name] = outcome.artifact
        self.outcomes[outcome.name] = outcome
        self._record()

    def check_on(self, should_stop: Callable[[], bool]) -> None:
        """Check the rows that can be encoded now."""

        def tell(name: str, *_: object) -> None:
            if should_stop():
                raise InterruptedRunError(name, "stopped on request", "run again to go on")

        unchecked = [name for name in self.unchecked if name not in self.outcomes]
        self.plan = self.plan.with_made(self.made)
        self._check_rows(unchecked, tell)

    def _record(self) -> None:
        record_run(self.plan, list(self.outcomes.values()), self.made, self.store)


def plan_run(recipe: Recipe, store: Store) -> Plan:
    """Return the plan, with the commit of each hub id looked up."""
    plan = make(recipe, store)
    if not plan.unresolved:
        return plan
    known = hub_lock.read_lock(recipe.path)
    hub_lock.resolve(recipe.path, sorted(plan.unresolved), known)
    return make(recipe, store)
