"""What a plan and a run look like on a terminal; comparisons are compared.py's subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline.data.lengths import account, is_worth_a_warning
from pipeline.recipe.remarks import remarks
from pipeline.report import rollouts
from pipeline.report.plain import escape
from pipeline.run.plan import Plan, training_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from pipeline.run.estimate import Estimate
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


def count(number: int) -> str:
    """Return `910k`, `1.2M` and the like, to three digits."""
    value = float(number)
    for unit in ("", "k", "M", "B"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


def print_plan(plan: Plan, console: Console) -> None:
    """Print what will be done, why, how big it is, and our defaults below the user's settings."""
    from pipeline.run.disk_space import disk_space  # a run's summary has no use for either
    from pipeline.run.estimate import estimates

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
            escape(planned.because or planned.although),
        )
    console.print(table)
    for planned in plan.stages:
        for remark in remarks(planned.config):
            console.print(f"[yellow]{planned.name}: {escape(remark)}[/]")
    for name, estimate in estimates(plan).items():
        console.print(f"[dim]{name}: {_size_of_training(estimate)}[/]")
    for planned in plan.stages:
        defaults = training_summary(plan, planned.config)
        if defaults:
            said = ", ".join(f"{key}: {value}" for key, value in defaults.items())
            console.print(f"[dim]{planned.name}: our defaults: {escape(said)}[/]")
    if warning := disk_space(plan).warning():
        console.print(f"[yellow]{escape(warning)}[/]")
    for key in sorted(plan.unresolved):
        console.print(f"[dim]{escape(key)}: the run will look up its commit on the hub[/]")


def _size_of_training(estimate: Estimate) -> str:
    """Return parameters, tokens and memory in a line; what is not known yet is left out."""
    said = "parameters: known once the model is there"
    if estimate.parameters is not None:
        about = "about " if estimate.is_about else ""
        said = f"parameters {about}{count(estimate.parameters)}"
        if estimate.trained_parameters == estimate.parameters:
            said += " (all trained)"
        elif estimate.trained_parameters is not None:
            with_critic = estimate.trained_parameters > estimate.parameters
            said += f" ({count(estimate.trained_parameters)} trained"
            said += ", the critic's among them)" if with_critic else ")"
    at_most = "<= " if estimate.is_upper_bound else ""
    if estimate.tokens is not None:
        said += f", tokens {at_most}{count(estimate.tokens)}"
    if estimate.memory_bytes is not None:
        near = size(int(float(f"{estimate.memory_bytes:.2g}"))).replace(".0 ", " ")
        said += f", memory {at_most or 'about '}{near} beside the libraries"
    if at_most and (estimate.tokens or estimate.memory_bytes):
        said += f" (if all rows have {estimate.row_tokens:,} tokens)"
    return said


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the summary at the end of a run."""
    from pipeline.run.progress import clock  # its bars take long to import

    table = Table(box=None, pad_edge=False)
    for column in ("stage", "", "time", "size", "result"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        style = _STATUS_STYLE[outcome.status]
        table.add_row(
            escape(outcome.name),
            f"[{style}]{outcome.status}[/]",
            clock(outcome.artifact.provenance["seconds"]),
            size(outcome.artifact.size_bytes),
            escape(headline(outcome.artifact.metrics)),
        )
    console.print(table)
    for outcome in outcomes:
        if outcome.status != "cached":
            print_account(outcome.name, outcome.artifact.metrics, console)
        _print_packing(outcome.name, outcome.artifact.metrics, console)
        if outcome.artifact.kind == rollouts.KIND:
            _print_rollouts(outcome.name, outcome.artifact.path, console, is_finished=True)


def print_account(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Print what became of a stage's rows: as a warning where more than a few were lost."""
    said = account(metrics)
    if said and is_worth_a_warning(metrics):
        console.print(f"[yellow]{escape(name)}: warning: {said}[/]", highlight=False)
    elif said:
        console.print(f"[dim]{escape(name)}: {said}[/]", highlight=False)


def _print_packing(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Say that rows of a training stage were padded since its model cannot take them packed."""
    said = str(metrics.get("packing", ""))
    if said.startswith("padded, since"):
        share = f"; at most {metrics['padding_share']:.0%} of it is padding"
        console.print(f"[dim]{escape(name)}: rows {escape(said)}{share}[/]", highlight=False)


def print_states(states: Sequence[StageState], console: Console) -> None:
    """Print what is there of each stage."""
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "kind", "state", "size", "folder"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for state in states:
        table.add_row(
            escape(state.name),
            escape(state.kind),
            escape(state.state),
            size(state.size_bytes) if state.size_bytes else "",
            escape(str(state.folder or "")),
        )
    table.add_section()
    table.add_row("", "", "in all", size(sum(state.size_bytes for state in states)), "")
    console.print(table)
    for state in states:
        if state.kind == rollouts.KIND and state.folder is not None:
            out = state.folder / "out"
            folder = out if out.is_dir() else state.folder
            _print_rollouts(state.name, folder, console, is_finished=folder is not out)


def _print_rollouts(name: str, folder: Path, console: Console, *, is_finished: bool) -> None:
    """Print how a `ppo` stage went or goes: score, KL, gold score; nothing before it has any."""
    said = rollouts.in_a_line(rollouts.read_rollouts(folder, is_finished=is_finished))
    if said:
        console.print(f"[dim]{escape(name)}: {escape(said)}[/]", highlight=False)


def headline(metrics: Mapping[str, Any], *, at_most: int = 3) -> str:
    """Return the first few plain numbers of a stage's metrics."""
    numbers = [
        f"{key} {value:.4g}" for key, value in metrics.items() if isinstance(value, int | float)
    ]
    return ", ".join(numbers[:at_most])
