"""How long the rows of a source are, as lines of text. Imports no torch."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHORTEST = 16  # tokens: where the first bin ends at the least
_BAR = 40  # columns


def histogram(lengths: Sequence[int], limit: int | None) -> Iterator[str]:
    """Yield a line of quantiles, then a line per bin: powers of two, and a border at the limit."""
    ordered = sorted(lengths)
    if not ordered:
        return
    half, most = (ordered[min(len(ordered) - 1, len(ordered) * n // 100)] for n in (50, 95))
    yield f"tokens: {ordered[0]:,} to {ordered[-1]:,}, half up to {half:,}, 95% up to {most:,}"
    ends = _ends(ordered[0], ordered[-1], limit)
    counts = [bisect_left(ordered, end + 1) for end in ends]
    in_bins = [count - before for before, count in zip([0, *counts], counts, strict=False)]
    width, digits = max(len(f"{end:,}") for end in ends), len(f"{max(in_bins):,}")
    for end, count in zip(ends, in_bins, strict=True):
        bar = "#" * -(-count * _BAR // max(in_bins))
        beyond = "  too long" if limit is not None and end > limit and count else ""
        yield f"  up to {end:>{width},}  {count:>{digits},}  {bar}{beyond}"


def _ends(shortest: int, longest: int, limit: int | None) -> list[int]:
    """Return the last length in every bin."""
    end = _SHORTEST
    while end * 2 <= shortest:
        end *= 2
    ends = {end}
    while end < longest:
        end *= 2
        ends.add(end)
    if limit is not None and shortest <= limit < longest:
        ends.add(limit)
    return sorted(ends)
