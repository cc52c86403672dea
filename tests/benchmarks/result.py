"""What a benchmark found, as the line that is printed of it."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """ratio: higher is better. goal: what it must reach. details: what it was computed from.

    is_valid: False when what was measured is not what was to be measured.
    """

    name: str
    ratio: float
    goal: float
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    is_valid: bool = True

    @property
    def ok(self) -> bool:
        """Whether the goal is reached, by a valid measurement."""
        return self.is_valid and self.ratio >= self.goal

    def line(self) -> str:
        """Return the result as one line of JSON."""
        ratio = round(self.ratio, 3)
        shown = {"name": self.name, "ratio": ratio, "goal": self.goal, "ok": self.ok}
        return json.dumps({**shown, **self.details})
