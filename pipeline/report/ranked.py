"""Which of the pairs that reward models were to rank are left out, in words.

For the terminal and the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.lengths import WARNED_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEFT_OUT = "pairs_left_out"  # among a stage's metrics


def left_out_in_words(rows: int, counts: Mapping[str, int]) -> str:
    """Return `2 of 30 left out: 1 too long, 1 a response is empty`; "" for nothing."""
    lost = {why: count for why, count in counts.items() if count}
    if not lost:
        return ""
    reasons = ", ".join(f"{count:,} {why}" for why, count in lost.items())
    return f"{sum(lost.values()):,} of {rows:,} left out: {reasons}"


def is_left_out_worth_a_warning(rows: int, counts: Mapping[str, int]) -> bool:
    """Whether more than a few are left out."""
    return sum(counts.values()) > WARNED_SHARE * rows


def describe_left_out(metrics: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each source of a stage that lost pairs, and whether it is a warning."""
    for label, counts in metrics.get(LEFT_OUT, {}).items():
        lost = {why: count for why, count in counts.items() if why != "rows"}
        words = left_out_in_words(counts["rows"], lost)
        yield f"{label}: {words}", is_left_out_worth_a_warning(counts["rows"], lost)
