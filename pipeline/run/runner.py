"""Walks a plan: checks everything first, then brings one stage after another about.

What a stage takes is stage_run.py's subject. A stage that is there already costs nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from shlex import quote

from pipeline.checks.data import check_recipe_data
from pipeline.checks.laws import check_laws
from pipeline.checks.models import check_models
from pipeline.checks.overlaps import check_overlaps, stages_to_compare
from pipeline.checks.questions import check_questions
from pipeline.checks.rows import UncheckedRows, check_rows
from pipeline.checks.trackers import check_trackers
from pipeline.data.encoding.lengths import describe_rows
from pipeline.errors import InterruptedRunError, PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.plan.disk_space import disk_space
from pipeline.plan.plan import Plan, PlannedStage, make, schedule_of
from pipeline.plan.room import check_processes, check_room
from pipeline.recipe.checks.judges import check_judges
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.remarks import remarks
from pipeline.run.course import course_of
from pipeline.run.interrupt import stop_requests
from pipeline.run.outcomes import Outcome, record_run
from pipeline.run.stage_run import StageRun
from pipeline.store import hub_lock
from pipeline.store.run_record import last_run
from pipeline.store.store import Artifact, Store

Say = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """Which stages to run: all, unless a field says otherwise.

    only: this one and nothing else. start: this one and what follows from it. until: this one and
    what it is built on. Each may name a sweep, which is all of its stages. force: run the selected
    ones again although they are there, except those whose fingerprint is in `spared`.
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
        only, start, until = (
            None if text is None else plan.recipe.stages_named(text)
            for text in (self.only, self.start, self.until)
        )
        if only is not None:
            return [name for name in names if name in only]
        closure = schedule_of(plan)
        if start is not None:
            begun = set(start)
            names = [name for name in names if name in begun or begun & closure[name]]
        if until is not None:
            needed = frozenset(until).union(*(closure[name] for name in until))
            names = [name for name in names if name in needed]
        return names


@one_line("posttrain run")
def run(
    recipe: Recipe,
    store: Store,
    *,
    selection: Selection | None = None,
    resume_anyway: bool = False,
    say: Say = lambda line: None,
    describe: Callable[[Artifact], str] = lambda artifact: "",
) -> list[Outcome]:
    """Run what the plan says is missing and return what became of every selected stage.

    say: takes each line for the user; describe: says what came of a stage, for its last line.

    Raises PosttrainError for what the user can mend, InterruptedRunError when asked to stop,
    InfrastructureError where a disk refuses.
    """
    plan = _plan(recipe, store)
    selection = selection or Selection()
    selected = selection.stages(plan)
    pending = [
        name
        for name in selected
        if plan.stage(name).status != "cached" or selection.forces(plan.stage(name))
    ]
    outcomes: list[Outcome] = []
    made = {planned.name: planned.artifact for planned in plan.stages}
    unchecked = _check(plan, pending, made, say=say)
    if pending and any(made.values()):
        record_run(plan, outcomes, made, store)  # `clean` keeps what this run builds on
    kinds = {planned.name: planned.kind for planned in plan.stages}
    with stop_requests() as stop:
        for name in selected:
            planned = plan.stage(name)
            _check_inputs(plan, planned, made)
            stage_run = StageRun(
                plan=plan,
                planned=planned,
                store=store,
                is_forced=selection.forces(planned),
                resume_anyway=resume_anyway,
                course=course_of(name, pending, kinds, last_run(store, recipe.run_name)),
                stop=stop,
                say=say,
                describe=describe,
            )
            outcome = stage_run.bring_about(made)
            made[name] = outcome.artifact
            outcomes.append(outcome)
            record_run(plan, outcomes, made, store)
            if stop.is_requested:
                raise InterruptedRunError(name, "stopped on request", "run again to go on")
            later = [stage for stage in unchecked if stage != name]
            plan = plan.with_made(made)
            unchecked = _check_rows(plan, later, made, say=say)
    return outcomes


def _plan(recipe: Recipe, store: Store) -> Plan:
    """Return the plan, with the commit of each hub id looked up."""
    plan = make(recipe, store)
    if not plan.unresolved:
        return plan
    known = hub_lock.read_lock(recipe.path)
    hub_lock.resolve(recipe.path, sorted(plan.unresolved), known)
    return make(recipe, store)


def _check(
    plan: Plan, pending: list[str], made: Mapping[str, Artifact | None], *, say: Say
) -> list[str]:
    """Check what can be known to be wrong before anything runs, as `posttrain check` does.

    made: the results that are there, by stage. Returns the stages whose rows cannot be encoded yet.
    """
    recipe = plan.recipe
    check_processes(recipe, pending)
    check_room(plan, pending)
    for name in pending:
        for remark in remarks(recipe.stages[name]):
            say(f"{name:<14} {remark}")
    if pending and (warning := disk_space(plan, pending).warning()):
        say(f"{'disk':<14} {warning}")
    check_trackers(recipe, pending)
    check_judges(recipe, pending)
    check_laws(plan, pending)
    for _ in check_recipe_data(recipe, pending):
        pass  # a bad row is found before the first stage runs; only `check` counts the good ones
    for line in check_overlaps(recipe, stages_to_compare(recipe, pending)):
        say(line)
    check_questions(recipe, pending)
    check_models(plan, pending, made, fetches=True)
    return _check_rows(plan, pending, made, say=say)


def _check_rows(
    plan: Plan, names: Iterable[str], made: Mapping[str, Artifact | None], *, say: Say
) -> list[str]:
    """Encode rows before their stages run, say which are lost; return what cannot be told yet."""
    unchecked: list[str] = []
    for rows in check_rows(plan, names, made, fetches=True):
        if isinstance(rows, UncheckedRows):
            unchecked.append(rows.name)
        elif rows.is_warning:
            say(f"{rows.name:<14} warning: {describe_rows(rows.metrics)}")
    return unchecked


def _check_inputs(plan: Plan, planned: PlannedStage, made: Mapping[str, Artifact | None]) -> None:
    """Raise PosttrainError where a stage is built on one that has not run."""
    for needed in planned.inputs:
        if made[needed] is None:
            raise PosttrainError(
                str(plan.recipe.path),
                f"`{planned.name}` is built on `{needed}`, which has not run",
                f"leave out --stage/--from, or run --stage {quote(needed)} first",
            )
