"""A scaling law's metrics in words: for the terminal, the report and a run's last table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.statistics.estimate import Estimate
from pipeline.report.formatting import number, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "scaling_law"


def estimate_at(row: Mapping[str, Any], key: str) -> Estimate:
    """Return a figure of a row with the ends that stand beside it."""
    return Estimate(row[key], row.get(f"{key}_low"), row.get(f"{key}_high"))


def law_headline(metrics: Mapping[str, Any]) -> str:
    """Return what came of a scaling law in a few words."""
    if "prediction_error" not in metrics:
        said = plural(metrics["fitted_runs"], "run")
        return f"{said} off by {metrics['fit_error']:.2%} on average"
    off = number(100 * metrics["prediction_error"], 2, sign=True)
    return f"largest run predicted {off}%, {metrics['compute_beyond_fit']:.1f}x the fit's compute"


def largest_in_words(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the runs that the fit did not see; "" where it saw all."""
    left_out = [row for row in metrics["runs"] if not row["is_fitted"]]
    if not left_out:
        return ""
    largest = max(left_out, key=lambda row: row["compute"])
    within = estimate_at(largest, "predicted")
    ends = f" [{number(within.low, 3)}, {number(within.high, 3)}]" if within.low else ""
    is_inside = within.low is not None and within.low <= largest["loss"] <= (within.high or 0)
    return (
        f"The largest run, {metrics['compute_beyond_fit']:.1f} times the compute of any that was "
        f"fitted: predicted {number(within.value, 3)}{ends}, measured "
        f"{number(largest['loss'], 3)}, off by {number(100 * largest['off'], 2, sign=True)}%"
        f"{'' if is_inside else ' and outside the interval'}."
    )
