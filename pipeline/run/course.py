"""Where a stage stands in its run: which of how many it is, and how long those after it will take.

How long is guessed from the last time: of the stage of this name in the same run, whatever has
changed since, else of the run's other stages of its kind. Without either, no time is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Course:
    """number: from 1 to `of`. later_s: of all stages after it; None where one is not known."""

    number: int
    of: int
    later_s: float | None

    @property
    def place(self) -> str:
        """Return `, 2 of 5`; empty for the only one."""
        return f", {self.number} of {self.of}" if self.of > 1 else ""


def course_of(
    name: str,
    pending: Sequence[str],
    kinds: Mapping[str, str],
    last: Mapping[str, Mapping[str, Any]],
) -> Course | None:
    """Return where a stage stands among those that are run; None where it is not.

    kinds: by stage. last: what run.json says of each stage's last result.
    """
    if name not in pending:
        return None
    number = pending.index(name)
    later = [likely_seconds(later, kinds[later], last) for later in pending[number + 1 :]]
    known = [seconds for seconds in later if seconds is not None]
    return Course(number + 1, len(pending), sum(known) if len(known) == len(later) else None)


def likely_seconds(name: str, kind: str, last: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return how long a stage may take, as last time or as others of its kind; None if unknown."""
    own = last.get(name, {}).get("seconds")
    if isinstance(own, int | float):
        return float(own)
    alike = [
        float(stage["seconds"])
        for stage in last.values()
        if stage.get("kind") == kind and isinstance(stage.get("seconds"), int | float)
    ]
    return fmean(alike) if alike else None
