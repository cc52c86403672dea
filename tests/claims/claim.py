"""A claim, the cases that try it, and what came of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random


@dataclass(frozen=True)
class Outcome:
    """What one case showed.

    tried: how many attempts it made. failures: one line for each that did not hold.
    labels: counts of what was reached ("inside a save"), by name; a claim may ask for a share.
    """

    tried: int = 1
    failures: tuple[str, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """name: unique in its claim, what it is replayed by.

    attempt: tries it in an empty folder of its own. An exception of any kind is a failure, and so
    is taking longer than limit_s.
    """

    name: str
    attempt: Callable[[Path], Outcome]
    limit_s: float = 120.0


@dataclass(frozen=True)
class Claim:
    """number: G1 to G10. says: the claim in one line, as the page prints it.

    cases: drawn from a generator of the run's seed and this claim's number; `times` multiplies
    how many there are (1 in `make prove`). least: fewer attempts than this are a failure at
    `times=1`. shares: the smallest share of attempts that must carry a label.
    """

    number: str
    says: str
    cases: Callable[[Random, int], Sequence[Case]]
    least: int
    shares: dict[str, float] = field(default_factory=dict)


def holds() -> Outcome:
    """Return the outcome of one attempt that held."""
    return Outcome()


def fails(line: str) -> Outcome:
    """Return the outcome of one attempt that did not hold."""
    return Outcome(failures=(line,))
