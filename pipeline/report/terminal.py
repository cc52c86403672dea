"""What a plan, a run and a comparison look like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from pipeline.run.plan import Plan, training_summary
from pipeline.run.progress import clock

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
    table = Table(
        title=f"against {escape(baseline)}, 95% intervals", title_justify="left", box=None
    )
    for column in ("task", "metric", "model", "asked", "n", "score", "difference"):
        table.add_column(column, justify="right" if column in {"n", "score"} else "left")
    last = None
    for row in comparison["rows"]:
        subject = (row["task"], row["metric"])
        if last is not None and subject != last:
            table.add_section()
        first = subject != last
        last = subject
        asked = row["form"] if row["style"] == "none" else f"{row['form']}, {row['style']}"
        table.add_row(
            escape(row["task"]) if first else "",
            row["metric"].replace("_", " ") if first else "",
            escape(row["model"]),
            asked,
            str(row["n"]),
            _interval(row["score"], row["low"], row["high"]),
            _difference(row),
        )
    console.print(table)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _difference(row: Mapping[str, Any]) -> str:
    if row["delta"] is None:
        return ""
    text = f"{row['delta']:+.3f}"
    if row["delta_low"] is not None:
        text += f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        is_lower_better = row["metric"] == "bits_per_byte"
        is_clear = row["delta_low"] > 0 or row["delta_high"] < 0
        if is_clear:
            is_gain = (row["delta"] < 0) == is_lower_better
            text = f"[{'green' if is_gain else 'red'}]{text}[/]"
    against = row["against"]
    return text if against in (None, "none") else f"{text} [dim]vs {against}[/]"
