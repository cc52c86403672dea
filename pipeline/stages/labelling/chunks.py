"""Work of `label` done some rows at a time, with what its judges spent kept beside it.

Which rows are judged together never depends on where a killed stage goes on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.data.making.pieces import Pieces
from pipeline.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.stage import StageContext
    from reward.judges.ledger import Ledger

T = TypeVar("T")

AT_ONCE = 64  # rows judged between two looks at whether to stop
Role = Literal["judges", "revisers"]  # what those who are asked do
_SPENT = ".asked"  # beside the names of rewards, of which none begins with a dot
_Counts = dict[str, dict[str, float]]  # by the name of who was asked


class Chunks:
    """The rows of one kind of work after another, in the checkpoints of one stage."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._pieces = Pieces(context, sys.maxsize)
        self._num_done = 0  # by earlier kinds of work
        self._unkept: _Counts = {}

    def do(
        self,
        noun: str,
        rows: Sequence[T],
        work: Callable[[Sequence[T]], Sequence[dict[str, Any]]],
        ledgers: Mapping[str, Ledger],
        *,
        role: Role = "judges",
    ) -> list[dict[str, Any]]:
        """Return what `work` makes of the rows, one JSON object each.

        ledgers: of those who are asked, by name; one may come in when it is first asked. The last
        row of a chunk keeps what the chunk took, so that the sums of a killed stage are right.
        """
        pieces, offset = self._pieces, self._num_done
        pieces.total = self._num_done = offset + len(rows)
        while len(pieces.rows) < pieces.total:
            start = len(pieces.rows) - offset
            self._context.progress(noun, start, len(rows))
            if self._context.should_stop():
                pieces.seal()
            self._context.stop_if_asked()
            before = _read(ledgers)
            made = list(work(rows[start : (start // AT_ONCE + 1) * AT_ONCE]))
            spent = _difference(_read(ledgers), before)
            if spent:
                made[-1] = {**made[-1], _SPENT: {role: spent}}
            pieces.add(made)
        return pieces.rows[offset : pieces.total]

    def do_again(self, work: Callable[[], T], ledgers: Mapping[str, Ledger]) -> T:
        """Return what `work` makes, which judges are asked for anew by a stage that goes on."""
        self._pieces.seal()
        before = _read(ledgers)
        made = work()
        _add(self._unkept, _difference(_read(ledgers), before))
        return made

    def asked(self) -> dict[Role, _Counts]:
        """Return what judges and revisers were asked and what they took, by name.

        Raises CorruptArtifactError for a checkpoint with more rows than there was work.
        """
        if len(self._pieces.rows) > self._num_done:
            message = f"has {len(self._pieces.rows)} rows of {self._num_done}"
            where = str(self._context.resume_from)
            raise CorruptArtifactError(where, message, "delete it and run again")
        sums: dict[Role, _Counts] = {"judges": {}, "revisers": {}}
        for row in self._pieces.rows:
            for role, counts in row.get(_SPENT, {}).items():
                _add(sums[role], counts)
        _add(sums["judges"], self._unkept)
        return sums


def _add(sums: _Counts, counts: Mapping[str, Mapping[str, float]]) -> None:
    for name, one in counts.items():
        total = sums.setdefault(name, {})
        for key, value in one.items():
            total[key] = total.get(key, 0) + value


def _read(ledgers: Mapping[str, Ledger]) -> _Counts:
    return {name: ledger.metrics() for name, ledger in ledgers.items()}


def _difference(
    after: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]
) -> _Counts:
    return {
        name: {key: value - before.get(name, {}).get(key, 0) for key, value in counts.items()}
        for name, counts in after.items()
    }
