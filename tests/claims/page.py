"""The page of counts: tried, held, not held, and the bound that the count supports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scipy.stats import beta

if TYPE_CHECKING:
    from tests.claims.claim import Claim, Outcome

_CONFIDENCE = 0.95


@dataclass
class Line:
    """What has come of one claim so far; failures: (name of the case, what went wrong)."""

    claim: Claim
    tried: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, case: str, outcome: Outcome, seconds: float) -> None:
        """Count one case."""
        self.tried += outcome.tried
        self.failed += min(len(outcome.failures), max(outcome.tried, 1))
        self.seconds += seconds
        self.failures += [(case, failure) for failure in outcome.failures]
        self.labels.update(outcome.labels)

    def shortfalls(self) -> list[str]:
        """Return what was tried too seldom, one line each."""
        few = []
        if self.tried < self.claim.least:
            few.append(f"{self.tried} attempts, at least {self.claim.least} are asked for")
        for label, share in self.claim.shares.items():
            reached = self.labels[label] / max(self.tried, 1)
            if reached < share:
                few.append(f"{reached:.0%} {label}, at least {share:.0%} are asked for")
        return few


def upper_bound(failed: int, tried: int) -> float:
    """Return the one-sided 95% bound of Clopper and Pearson on the rate of failures."""
    if failed >= tried:
        return 1.0
    return float(beta.ppf(_CONFIDENCE, failed + 1, tried - failed))


def write_page(lines: list[Line]) -> str:
    """Return the page as a Markdown table, one line per claim."""
    rows = [
        "| | claim | tried | held | not held | at 95% below | processor s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for line in lines:
        failed = line.failed
        bound = f"{upper_bound(failed, line.tried):.2%}" if line.tried else "-"
        reached = "".join(f"; {count} {label}" for label, count in sorted(line.labels.items()))
        rows.append(
            f"| {line.claim.number} | {line.claim.says}{reached} | {line.tried:,} "
            f"| {line.tried - failed:,} | {failed} | {bound} | {line.seconds:.0f} |"
        )
    return "\n".join(rows)
