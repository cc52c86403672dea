"""A scaling law's metrics in words: for the terminal, the report and a run's last table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.statistics.estimate import Estimate
from pipeline.report.formatting import number, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KIND = "scaling_law"
_SAME_TOKENS = 0.01


def estimate_at(row: Mapping[str, Any], key: str) -> Estimate:
    """Return a figure of a row with the ends that stand beside it."""
    return Estimate(row[key], row.get(f"{key}_low"), row.get(f"{key}_high"))


def law_headline(metrics: Mapping[str, Any]) -> str:
    """Return what came of a scaling law in a few words."""
    largest = _largest(metrics)
    if not largest:
        said = plural(metrics["fitted_runs"], "run")
        return f"{said} off by {metrics['fit_error']:.2%} on average"
    runs = "largest run" if len(largest) == 1 else f"{len(largest)} largest runs"
    beyond = f"{metrics['compute_beyond_fit']:.1f}x the fit's compute"
    return f"{runs} predicted {_each(_off(row) for row in largest)}, {beyond}"


def largest_in_words(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the largest of the runs that the fit did not see; "" where it saw all.

    Seeds of one run are one prediction, give or take some tokens.
    """
    largest = _largest(metrics)
    if not largest:
        return ""
    within = estimate_at(largest[0], "predicted")
    ends = f" [{number(within.low, 3)}, {number(within.high, 3)}]" if within.low else ""
    outside = [row for row in largest if not _is_inside(row)]
    said = f" and outside the interval{'' if len(largest) == 1 else f' ({len(outside)})'}"
    runs = "largest run" if len(largest) == 1 else f"{len(largest)} largest runs"
    return (
        f"The {runs}, {metrics['compute_beyond_fit']:.1f} times the compute of any that was "
        f"fitted: predicted {number(within.value, 3)}{ends}, measured "
        f"{_each(number(row['loss'], 3) for row in largest)}, "
        f"off by {_each(_off(row) for row in largest)}{said if outside else ''}."
    )


def _largest(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the run of the most compute that was left out, with its repetitions; [] if none was.

    A repetition has its size, and its tokens up to how they fall into rows.
    """
    left_out = [row for row in metrics["runs"] if not row["is_fitted"]]
    if not left_out:
        return []
    largest = max(left_out, key=lambda row: row["compute"])
    return [
        row
        for row in left_out
        if row["parameters"] == largest["parameters"]
        and row["tokens"] > (1 - _SAME_TOKENS) * largest["tokens"]
    ]


def _is_inside(row: Mapping[str, Any]) -> bool:
    within = estimate_at(row, "predicted")
    return within.low is not None and within.low <= row["loss"] <= (within.high or 0)


def _off(row: Mapping[str, Any]) -> str:
    return f"{number(100 * row['off'], 2, sign=True)}%"


def _each(said: Iterable[str]) -> str:
    return ", ".join(said)
