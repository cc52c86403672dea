"""What judges were asked in a training and what they took, over all processes and attempts.

The counts go into checkpoints with the training's notes, so that a run which was killed has those
of one that was not. What the requests cost is kept beside them (pipeline/rewards/spending.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelerate.utils import gather_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.rl.state import RlState
    from reward.judges.ledger import Ledger

_NOTE = "judges"
_Counts = dict[str, dict[str, float]]  # by judge


class JudgeCounts:
    """The counts of the judges of a training since they were examined. ledgers: by judge."""

    def __init__(self, ledgers: Mapping[str, Ledger], state: RlState) -> None:
        self._ledgers = ledgers
        self._state = state
        self._start = self._read()
        self._before: _Counts | None = None  # of earlier attempts
        self._others: _Counts = {}

    def note(self) -> None:
        """Note the counts of all processes, each of which calls this after judges were asked."""
        if not self._ledgers:
            return
        if self._before is None:  # a checkpoint has been read by now
            self._before = self._state.notes.get(_NOTE, {})
        own = self._own()
        gathered: list[_Counts] = gather_object([own])
        self._others = _sum([*gathered, _scaled(own, -1)])
        self._state.notes[_NOTE] = self.counts()

    def counts(self) -> _Counts:
        """Return the counts: of others as they were last noted, this process's as they are now."""
        if not self._ledgers:
            return {}
        return _sum([self._before or {}, self._others, self._own()])

    def _own(self) -> _Counts:
        return _sum([self._read(), _scaled(self._start, -1)])

    def _read(self) -> _Counts:
        return {name: ledger.metrics() for name, ledger in self._ledgers.items()}


def _sum(several: list[_Counts]) -> _Counts:
    total: _Counts = {}
    for counts in several:
        for name, one in counts.items():
            of_judge = total.setdefault(name, {})
            for key, value in one.items():
                of_judge[key] = of_judge.get(key, 0) + value
    return total


def _scaled(counts: _Counts, factor: int) -> _Counts:
    return {
        name: {key: factor * value for key, value in one.items()} for name, one in counts.items()
    }
