"""Work of `label` done some rows at a time, with what its judges spent kept beside it.

Which rows are judged together never depends on where a killed stage goes on.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.data.making.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.stage import StageContext
    from reward.judges.ledger import Ledger

T = TypeVar("T")

AT_ONCE = 64  # rows judged between two looks at whether to stop
_SPENT = ".judges"  # beside the names of rewards, of which none begins with a dot


def in_chunks(
    context: StageContext,
    noun: str,
    rows: Sequence[T],
    work: Callable[[Sequence[T]], Sequence[dict[str, Any]]],
    ledgers: Mapping[str, Ledger],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what `work` makes of the rows, one object each, and what judging took, as metrics.

    ledgers: of the judges, by name; one may come in when it is first asked. The last row of a chunk
    keeps what the chunk took, so that the sums of a killed stage are right.
    """
    pieces = Pieces(context, len(rows))
    while len(pieces.rows) < len(rows):
        start = len(pieces.rows)
        context.progress(noun, start, len(rows))
        if context.should_stop():
            pieces.seal()
        context.stop_if_asked()
        end = (start // AT_ONCE + 1) * AT_ONCE
        before = _read(ledgers)
        made = list(work(rows[start:end]))
        spent = {
            name: {key: value - before.get(name, {}).get(key, 0) for key, value in counts.items()}
            for name, counts in _read(ledgers).items()
        }
        if spent:
            made[-1] = {**made[-1], _SPENT: spent}
        pieces.add(made)
    return pieces.rows, _sums(pieces.rows)


def _read(ledgers: Mapping[str, Ledger]) -> dict[str, dict[str, float]]:
    return {name: ledger.metrics() for name, ledger in ledgers.items()}


def _sums(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what each judge was asked and what it took, over all chunks."""
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        for name, counts in row.get(_SPENT, {}).items():
            sums.setdefault(name, Counter()).update(counts)
    return {"judges": {name: dict(counts) for name, counts in sums.items()}} if sums else {}
