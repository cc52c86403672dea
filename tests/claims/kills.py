"""G1: whatever is killed, and wherever, ends after it is run again as what was left alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.claims import killed, killed_ranks
from tests.claims.claim import Case, Claim, Outcome
from tests.claims.kill_points import Points, lose_power, safe_before

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from tests.claims.killed import Place, Whole

_CASES_A_KIND = 22
_MOST_KILLS = 3
_AGAIN = 3
_LIMIT_S = 600.0  # of a process's first case, which includes what all of its cases begin with


@dataclass(frozen=True)
class _Kill:
    """share: how far into what is left. at_point: before a change to files, else in between.

    loses_power: what was not flushed by then may be gone.
    """

    share: float
    at_point: bool
    loses_power: bool

    def __str__(self) -> str:
        where = "files" if self.at_point else "time"
        return f"{self.share:.3f} of its {where}{', power lost' if self.loses_power else ''}"


def _cases(drawn: Random, times: int) -> Sequence[Case]:
    found: list[Case] = []
    for number in range(_CASES_A_KIND * times):
        for name, kind in killed.KINDS.items():
            is_late = number % 4 == 0  # between the last step and the end of the run
            kills = [_drawn(drawn, is_late=is_late) for _ in range(1 + number % _MOST_KILLS)]
            seed = drawn.random()
            case = partial(
                _attempt,
                name=name,
                kills=kills,
                is_late=is_late,
                is_moved=number % 5 == 1,
                seed=seed,
            )
            when = "late" if is_late else "any time"
            found.append(
                Case(f"{kind} {number}, {when}: {'; '.join(map(str, kills))}", case, _LIMIT_S)
            )
    found += killed_ranks.cases(drawn, times)
    drawn.shuffle(found)  # so that a share of them has some of each kind
    return found


def _drawn(drawn: Random, *, is_late: bool) -> _Kill:
    at_point = is_late or drawn.random() < 0.7
    return _Kill(drawn.random(), at_point, at_point and drawn.random() < 0.4)


def _attempt(
    folder: Path,
    *,
    name: str,
    kills: Sequence[_Kill],
    is_late: bool,
    is_moved: bool,
    seed: float,
) -> Outcome:
    """Kill it, again and again, run it to its end, compare, and run it three times more.

    is_moved: the store lies elsewhere after each kill.
    """
    from random import Random

    whole = killed.done()[1][name]
    place = killed.prepared(folder, name)
    drawn = Random(seed)
    labels = dict[str, int]()
    failures: list[str] = []
    tried = 0
    sealed: list[int] = []
    for number, kill in enumerate(kills):
        before = safe_before(place.runs)
        points = Points(
            folder,
            folder.parent / f"{folder.name}.trace",
            _point(kill, whole, number, is_late=is_late),
        )
        if kill.at_point:
            ended = place.do(name, first=points.watch)
        else:
            ended = place.do(name, processor_s=kill.share * whole.processor_s)
        failures += _wrong(ended.output, sealed)
        if ended.code is not None:
            break
        tried += 1
        sealed = place.sealed()
        reached = {
            "inside a save": place.is_inside_a_save(),
            "after a checkpoint": bool(sealed),
            "after the last step": is_late,
            "with power lost": kill.loses_power,
            "with the store moved": is_moved,
        }
        if kill.loses_power:
            lose_power(place.runs, points.trace, before, drawn)
            sealed = sealed[:-1]  # the newest one may have been at its last flush
        if is_moved:
            place = place.moved(f"runs-{number}")
        for label in (label for label, is_so in reached.items() if is_so):
            labels[label] = labels.get(label, 0) + 1
        points.trace.unlink(missing_ok=True)
    ended = place.do(name)
    failures += _wrong(ended.output, sealed)
    if ended.code != 0:
        failures.append(f"run again it ended with {ended.code}: {ended.output[-300:]}")
    else:
        failures += _differences(place, name, whole, "after the kills")
        again = place.do(name, times=_AGAIN)
        if again.code != 0 or again.output.count("status ran") + again.output.count("resumed"):
            failures.append(f"a finished one ran once more: {again.output[-300:]}")
        failures += _differences(place, name, whole, "run again when it was finished")
        labels["finished, then run three times more"] = 1
    return Outcome(tried, tuple(failures), labels)


def _point(kill: _Kill, whole: Whole, number: int, *, is_late: bool) -> int:
    """Return the number of the change to files before which to kill.

    What was killed before has less to do when it goes on.
    """
    if is_late and number == 0:
        return whole.last_step + math.ceil(kill.share * (whole.points - whole.last_step))
    if is_late:
        return math.ceil(kill.share * (whole.points - whole.last_step))
    return math.ceil(kill.share * whole.points / (1 + number))


def _wrong(output: str, sealed: Sequence[int]) -> list[str]:
    """Return what a run said that a kill is no reason for."""
    found = [line for line in output.splitlines() if "torn checkpoint" in line]
    if "Traceback" in output:
        found.append(output[-600:])
    is_anew = " runs (" in output or "starts over" in output
    if sealed and is_anew:
        found.append(f"it began anew although checkpoint {sealed[-1]} counts")
    return found


def _differences(place: Place, name: str, whole: Whole, when: str) -> list[str]:
    differ = sorted(set(place.hashes(name)) ^ set(whole.hashes))
    found = [f"{when}: {line}" for line in differ[:4]]
    if place.is_inside_a_save():
        found.append(f"{when}: something is left half-written")
    return found


CLAIM = Claim(
    "G1",
    "killed at any moment and run again, every stage ends in the same bytes",
    _cases,
    least=400,
    shares={"inside a save": 0.3},
)
