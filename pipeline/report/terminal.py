"""What a plan, a run and a comparison look like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from pipeline.run.plan import Plan, training_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from pipeline.run.inspect import StageState
    from pipeline.run.runner import Outcome

_STATUS_STYLE = {
    "cached": "dim",
    "ran": "green",
    "resumed": "green",
    "run": "yellow",
    "resume": "cyan",
}


def size(size_bytes: int) -> str:
    """Return `1.2 MB` and the like."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def print_plan(plan: Plan, console: Console) -> None:
    """Print what will be done, why, and the defaults of ours below the user's settings."""
    table = Table(title=f"{plan.recipe.name}: plan", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "kind", "", "fingerprint", "because"):
        table.add_column(column, overflow="fold")
    for planned in plan.stages:
        style = _STATUS_STYLE[planned.status]
        table.add_row(
            planned.name,
            planned.kind,
            f"[{style}]{planned.status}[/]",
            planned.fingerprint[:16],
            escape(planned.because),
        )
    console.print(table)
    for planned in plan.stages:
        defaults = training_summary(planned.config)
        if defaults:
            said = ", ".join(f"{key}: {value}" for key, value in defaults.items())
            console.print(f"[dim]{planned.name}: our defaults: {escape(said)}[/]")
    for key in sorted(plan.unresolved):
        console.print(f"[dim]{escape(key)}: the run will look up its commit on the hub[/]")


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the summary at the end of a run."""
    from pipeline.run.progress import clock  # its bars take long to import

    table = Table(box=None, pad_edge=False)
    for column in ("stage", "", "time", "size", "result"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        style = _STATUS_STYLE[outcome.status]
        table.add_row(
            outcome.name,
            f"[{style}]{outcome.status}[/]",
            clock(outcome.artifact.provenance["seconds"]),
            size(outcome.artifact.size_bytes),
            escape(headline(outcome.artifact.metrics)),
        )
    console.print(table)


def print_states(states: Sequence[StageState], console: Console) -> None:
    """Print what is there of each stage."""
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "kind", "state", "size", "folder"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for state in states:
        table.add_row(
            state.name,
            state.kind,
            escape(state.state),
            size(state.size_bytes) if state.size_bytes else "",
            escape(str(state.folder or "")),
        )
    table.add_section()
    table.add_row("", "", "in all", size(sum(state.size_bytes for state in states)), "")
    console.print(table)


def headline(metrics: Mapping[str, Any], *, at_most: int = 3) -> str:
    """Return the first few plain numbers of a stage's metrics."""
    numbers = [
        f"{key} {value:.4g}" for key, value in metrics.items() if isinstance(value, int | float)
    ]
    return ", ".join(numbers[:at_most])


def print_comparison(comparison: Mapping[str, Any], console: Console) -> None:
    """Print comparison.json: scores with intervals, differences to the baseline's best style."""
    baseline = comparison["baseline"]
    table = Table(box=None, pad_edge=False, title_justify="left", title="95% intervals")
    table.add_column("model, asked by", overflow="fold")
    table.add_column("n", justify="right")
    table.add_column("score", no_wrap=True)
    table.add_column(f"against the best of {escape(baseline)}", no_wrap=True)
    last = None
    for row in comparison["rows"]:
        subject = (row["task"], row["metric"])
        if subject != last:
            name = f"{row['task']}: {row['metric'].replace('_', ' ')}"
            table.add_row(f"[bold]{escape(name)}[/]")
        last = subject
        asked = row["form"] if row["style"] == "none" else f"{row['form']}, {row['style']}"
        digits = 3 if row["metric"] == "bits_per_byte" else 2
        table.add_row(
            f"  {escape(row['model'])}, {asked}",
            str(row["n"]),
            _interval(row["score"], row["low"], row["high"], digits),
            _difference(row, digits),
        )
    console.print(table)


def _interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None:
        return "-"
    said = f"{value:.{digits}f}"
    return said if low is None else f"{said} \\[{low:.{digits}f}, {high:.{digits}f}]"


def _difference(row: Mapping[str, Any], digits: int) -> str:
    """Return a difference, green or red where its interval is clear of 0."""
    if row["delta"] is None:
        return ""
    said = f"{row['delta']:+.{digits}f}"
    if row["delta_low"] is None:
        return said
    said += f" \\[{row['delta_low']:+.{digits}f}, {row['delta_high']:+.{digits}f}]"
    if row["delta_low"] <= 0 <= row["delta_high"]:
        return said
    is_gain = (row["delta"] < 0) == (row["metric"] == "bits_per_byte")
    return f"[{'green' if is_gain else 'red'}]{said}[/]"
