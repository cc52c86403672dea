"""Where a stage stands in its run: the how manieth of how many, and how long those after it take.

How long is known from the last time: of the stage of this name in the same run, whatever has
changed since. A stage that never ran has no time; then none is given for all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Course:
    """number: from 1 to `of`. later_s: of all stages after it; None where one is not known."""

    number: int
    of: int
    later_s: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as a request holds it."""
        return asdict(self)


def course_of(name: str, pending: Sequence[str], last: Mapping[str, Mapping[str, Any]]) -> Course:
    """Return where a stage stands among those that are run.

    last: what run.json says of each stage's last result.
    """
    number = pending.index(name)
    later = [last.get(other, {}).get("seconds") for other in pending[number + 1 :]]
    known = [seconds for seconds in later if isinstance(seconds, int | float)]
    return Course(number + 1, len(pending), sum(known) if len(known) == len(later) else None)
