"""Which stages of a plan a run takes: `--stage`, `--from`, `--until`, `--force`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.plan.plan import schedule_of

if TYPE_CHECKING:
    from pipeline.plan.plan import Plan, PlannedStage


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
