"""Runs recipes: checks everything first, then has their stages brought about, as each can begin.

One after another, or several side by side (team.py), in the order of schedule.py. What a stage
takes is stage_run.py's subject. A stage that is there already costs nothing.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import InterruptedRunError, PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.machine import threads_of, visible_gpus
from pipeline.plan.room import check_jobs
from pipeline.recipe.devices import num_devices
from pipeline.recipe.slurm import is_on_slurm
from pipeline.run.interrupt import StopRequest, stop_requests
from pipeline.run.recipe_run import RecipeRun, plan_run
from pipeline.run.schedule import Graph, Schedule
from pipeline.run.selection import Selection
from pipeline.run.slurm.team import OnSlurm
from pipeline.run.team import Ended, OneByOne, Seat, SideBySide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.recipe.recipe import Recipe
    from pipeline.run.outcomes import Outcome
    from pipeline.run.recipe_run import Say
    from pipeline.run.team import Key, Team
    from pipeline.store.store import Artifact, Store

__all__ = ["Selection", "run", "run_together"]


def run(
    recipe: Recipe,
    store: Store,
    *,
    selection: Selection | None = None,
    resume_anyway: bool = False,
    jobs: int | None = None,
    say: Say = lambda line: None,
    describe: Callable[[Artifact], str] = lambda artifact: "",
) -> list[Outcome]:
    """Run what the plan says is missing and return what became of every selected stage.

    jobs: how many stages run side by side at most; by default what the recipe says. say: takes each
    line for the user; describe: says what came of a stage, for its last line.

    Raises PosttrainError for what the user can mend, InterruptedRunError when asked to stop,
    InfrastructureError where a disk refuses. With jobs, once all others have ended that can.
    """
    (outcomes,) = run_together(
        {"": recipe},
        store,
        selection=selection,
        resume_anyway=resume_anyway,
        jobs=jobs,
        say=say,
        describe=describe,
    )
    return outcomes


@one_line("posttrain run")
def run_together(
    recipes: Mapping[str, Recipe],
    store: Store,
    *,
    selection: Selection | None = None,
    resume_anyway: bool = False,
    jobs: int | None = None,
    say: Say = lambda line: None,
    describe: Callable[[Artifact], str] = lambda artifact: "",
) -> list[list[Outcome]]:
    """Run several recipes as one; a stage that is the same in some of them runs once.

    recipes: by what stands before the names of their stages where these are shown; the rest as of
    `run`. Returns the outcomes of each recipe.
    """
    first = next(iter(recipes.values()))
    at_once = first.jobs if jobs is None else jobs
    if at_once > 1:
        check_jobs(first, jobs)
    on_slurm = is_on_slurm(first)
    runs = [
        RecipeRun(
            plan=plan_run(recipe, store),
            store=store,
            selection=selection or Selection(),
            resume_anyway=resume_anyway,
            say=say,
            describe=describe,
        )
        for recipe in recipes.values()
    ]
    num_pending = sum(len(each.pending) for each in runs)
    team: Team = OneByOne(say)
    gpus: list[str] = []
    if on_slurm and num_pending:
        team, at_once = OnSlurm(say), num_pending + 1
    elif at_once > 1 and num_pending > 1:
        team, gpus = SideBySide(at_once, say), visible_gpus(os.environ)
        say(f"{_describe_threads(first, at_once)}{_describe_gpus(gpus)}")
    for prefix, each in zip(recipes, runs, strict=True):
        each.say = _with_prefix(prefix, team.say)
    twins = twins_of(runs)
    schedule = Schedule(
        graph_of(runs, twins, has_gpus=bool(gpus)),
        1 if isinstance(team, OneByOne) else at_once,
        gpus,
    )
    with closing(team):
        expect_next(team, schedule, num_pending)
        for each in runs:
            each.check()
        is_silent = isinstance(team, OnSlurm)  # nothing stops
        with stop_requests(is_silent=is_silent) as stop, team.at_work(stop):
            _Walk(list(recipes), runs, team, at_once, stop, twins, schedule).go()
    return [[each.outcomes[name] for name in each.selected] for each in runs]


def _with_prefix(prefix: str, say: Say) -> Say:
    return lambda line: say(f"{prefix}{line}")


def _describe_threads(recipe: Recipe, at_once: int) -> str:
    """Return how the cores are divided, and whether that moves last digits."""
    threads, alone = (recipe.threads or threads_of(count) for count in (at_once, 1))
    line = f"{'jobs':<14} {at_once} side by side, {threads} thread{'s' * (threads > 1)} each"
    if threads == alone:
        return line
    return f"{line}; one after another it would be {alone} (`threads:` in the recipe fixes it)"


def _describe_gpus(gpus: Sequence[str]) -> str:
    if not gpus:
        return ""
    return f"; {len(gpus)} GPU{'s' * (len(gpus) > 1)}: what uses one waits until one is free"


@dataclass
class _Walk:
    """The way through the stages of all recipes.

    prefixes: of each recipe. failures: of stages that failed while others ran. broken: what no
    other stage should begin after.
    """

    prefixes: Sequence[str]
    runs: Sequence[RecipeRun]
    team: Team
    at_once: int
    stop: StopRequest
    twins: Mapping[Key, Key]
    schedule: Schedule[Key]
    failures: list[PosttrainError] = field(default_factory=list[PosttrainError])
    broken: BaseException | None = None

    def __post_init__(self) -> None:
        self._is_one_by_one = isinstance(self.team, OneByOne)
        self._told_to_wait: set[Key] = set()

    def go(self) -> None:
        """Run all stages; raise what went wrong, once nothing runs any more."""
        if isinstance(self.team, OnSlurm):
            self.team.submit(self.runs, self.twins)
        last = ""
        while True:
            while not self.stop.is_requested and self.broken is None:
                key = self.schedule.begin_next()
                if key is None:
                    break
                self._begin(key)
            self._tell_who_waits()
            if not self.schedule.running:
                break
            ended = self.team.wait()
            last = ended.key[1]
            self._settle(ended)
            if self._is_one_by_one and self.stop.is_requested:
                break
        if self.stop.is_requested:
            raise InterruptedRunError(last, "stopped on request", "run again to go on")
        if self.broken is not None:
            raise self.broken
        if self.failures:
            raise self.failures[0]

    def _begin(self, key: Key) -> None:
        each, name = self.runs[key[0]], key[1]
        at_once = 1 if key in self.schedule.graph.alone else self.at_once
        twin = self.twins.get(key)
        try:
            stage_run = each.stage_run(name, at_once=at_once, stop=self.stop)
        except PosttrainError as error:
            if self._is_one_by_one:
                raise
            self._settle(Ended(key, None, error))
            return
        if twin is not None:
            artifact = self.runs[twin[0]].made[twin[1]]
            assert artifact is not None
            self._settle(Ended(key, stage_run.find(artifact)))
            return
        devices = self.schedule.taken[key] if self.schedule.devices else None
        seat = Seat(f"{self.prefixes[key[0]]}{name}", devices)
        self.team.begin(key, stage_run, each.made, seat)
        expect_next(self.team, self.schedule, self.schedule.num_left)

    def _tell_who_waits(self) -> None:
        for key in self.schedule.kept_waiting():
            if key not in self._told_to_wait:
                self._told_to_wait.add(key)
                count = self.schedule.graph.devices[key]
                what = "a GPU" if count == 1 else f"{count} GPUs"
                self.runs[key[0]].tell(key[1], f"waits for {what}")

    def _settle(self, ended: Ended) -> None:
        """Note what became of a stage, and what can be known now of those that follow."""
        each, error = self.runs[ended.key[0]], ended.error
        if ended.outcome is not None:
            each.take(ended.outcome)
            self.schedule.end(ended.key)
            if not self.stop.is_requested and not isinstance(self.team, OnSlurm):
                self._check_on(each)  # a job of Slurm's does so itself
            return
        gone = self.schedule.fail(ended.key)
        if isinstance(error, InterruptedRunError) and self.stop.is_requested:
            return
        if not isinstance(error, PosttrainError):
            self.broken = self.broken or error
            return
        self.failures.append(error)
        each.say(f"{ended.key[1]:<14} failed: {error}")
        for number, name in gone:
            self.runs[number].say(f"{name:<14} not run, since `{ended.key[1]}` failed")

    def _check_on(self, each: RecipeRun) -> None:
        try:
            each.check_on(self.stop)
        except PosttrainError as error:
            if self._is_one_by_one:
                raise
            self.broken = self.broken or error


def twins_of(runs: Sequence[RecipeRun]) -> dict[Key, Key]:
    """Return for each stage that an earlier one is the same as, in this recipe or another, that."""
    firsts: dict[tuple[str, str], Key] = {}
    twins: dict[Key, Key] = {}
    for number, each in enumerate(runs):
        for name in each.pending:
            planned = each.plan.stage(name)
            first = firsts.setdefault((planned.kind, planned.fingerprint), (number, name))
            if first != (number, name):
                twins[number, name] = first
    return twins


def expect_next(team: Team, schedule: Schedule[Key], num_left: int) -> None:
    """Have a process made ready for the next stage, if it is known which GPUs that will see."""
    if not schedule.devices:
        team.expect(num_left)
    elif (devices := schedule.likely_devices()) is not None:
        team.expect(num_left, devices)


def graph_of(
    runs: Sequence[RecipeRun], twins: Mapping[Key, Key], *, has_gpus: bool = False
) -> Graph[Key]:
    """Return the selected stages of all recipes; one with a twin needs that alone.

    has_gpus: whether there are any that stages take.
    """
    order = [(number, name) for number, each in enumerate(runs) for name in each.selected]
    chosen = set(order)
    needs: dict[Key, list[Key]] = {}
    for key in order:
        inputs = runs[key[0]].plan.stage(key[1]).inputs
        own = [(key[0], needed) for needed in inputs if (key[0], needed) in chosen]
        needs[key] = [twins[key]] if key in twins else own
    likely = [each.likely_seconds() for each in runs]
    is_there = {key: runs[key[0]].is_there(key[1]) for key in order}
    free = {key for key in order if is_there[key] or key in twins}
    devices = {
        key: num_devices(runs[key[0]].recipe, key[1])
        for key in order
        if has_gpus and key not in free
    }
    return Graph(
        order,
        {key: [] if is_there[key] else needed for key, needed in needs.items()},
        {key: likely[key[0]][key[1]] for key in order},
        alone={
            key
            for key in order
            if not is_there[key] and runs[key[0]].runs_alone(key[1], devices.get(key, 0))
        },
        free=free,
        devices=devices,
    )
