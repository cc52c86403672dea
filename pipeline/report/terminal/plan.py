"""`posttrain plan` on a terminal: what would run and why, how big it is, what we set ourselves."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.machine import visible_gpus
from pipeline.plan.disk_space import disk_space
from pipeline.plan.estimate import estimates
from pipeline.plan.judging import judging
from pipeline.plan.plan import Plan, training_summary
from pipeline.recipe.devices import num_devices
from pipeline.recipe.remarks import remarks
from pipeline.recipe.slurm import is_on_slurm, option_words
from pipeline.report.point_rows import list_stages, name_together
from pipeline.report.terminal.tables import Column, print_table, print_wrapped
from pipeline.text.amounts import count, size
from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from pipeline.plan.estimate import Estimate
    from pipeline.report.point_rows import Grid

_STATUS_STYLE = {"cached": "dim", "run": "yellow", "resume": "cyan"}


def print_plan(plan: Plan, console: Console) -> None:
    """Print what will be done and why, how big it is, and our defaults below the user's settings.

    Warnings stand below the stages, in yellow.
    """
    columns = (
        Column("stage", is_text=True),
        Column("kind"),
        Column(""),
        Column("fingerprint", rank=1),
        Column("because", is_text=True),
    )
    rows: list[tuple[str, ...] | str] = []
    for listed in list_stages([planned.name for planned in plan.stages]):
        planned = plan.stages[listed.place]
        if listed.begins is not None:
            rows.append(_grid_line(plan, listed.begins))
        rows.append(
            (
                escape(listed.label),
                planned.kind,
                f"[{_STATUS_STYLE[planned.status]}]{planned.status}[/]",
                planned.fingerprint[:16],
                escape(planned.because or planned.although),
            )
        )
    print_table(console, columns, rows, title=f"{escape(plan.recipe.name)}: plan")
    for planned in plan.stages:
        for remark in remarks(planned.config):
            console.print(f"[yellow]{escape(f'{planned.name}: {remark}')}[/]", highlight=False)
    for line in (*_jobs(plan), *_gpus(plan)):
        print_wrapped(console, escape(line))
    for name, asked in judging(plan):
        console.print(f"{escape(name)}: {escape(str(asked))}", highlight=False)
    if warning := disk_space(plan).warning():
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)
    for key in sorted(plan.unresolved):
        line = f"{escape(key)}: the run will look up its commit on the hub"
        console.print(f"[dim]{line}[/]", highlight=False)
    _print_sizes(estimates(plan), console)
    for line in _defaults(plan):
        print_wrapped(console, f"[dim]{line}[/]")


def _jobs(plan: Plan) -> Iterator[str]:
    """Yield which stages would be submitted to Slurm, and with which options."""
    if not is_on_slurm(plan.recipe):
        return
    names: dict[str, list[str]] = {}
    for planned in plan.stages:
        if planned.status != "cached":
            options = " ".join(option_words(plan.recipe, planned.name))
            names.setdefault(options, []).append(planned.name)
    for options, those in names.items():
        number = f"{len(those)} job{'s' * (len(those) > 1)}"
        yield f"Slurm: {number}, `{f'sbatch {options}'.strip()}`: {', '.join(name_together(those))}"


def _gpus(plan: Plan) -> Iterator[str]:
    """Yield how many GPUs each stage would take of this machine's, where some run side by side."""
    recipe, gpus = plan.recipe, visible_gpus(os.environ)
    if is_on_slurm(recipe) or recipe.jobs == 1 or not gpus:
        return
    names: dict[int, list[str]] = {}
    for planned in plan.stages:
        if planned.status != "cached":
            names.setdefault(num_devices(recipe, planned.name), []).append(planned.name)
    told = [
        f"{count or 'none'} for {', '.join(name_together(those))}"
        for count, those in sorted(names.items(), reverse=True)
    ]
    if told:
        have = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}"
        yield f"jobs: {recipe.jobs} side by side, {have}: {'; '.join(told)}"


def _grid_line(plan: Plan, grid: Grid) -> str:
    """Return the line above the stages of a sweep: how many there are, and how many are there."""
    counts = Counter(planned.status for planned in plan.stages if planned.name in grid.points)
    said = ", ".join(f"{number} {status}" for status, number in counts.items())
    return escape(f"{grid.title}: {len(grid.points)} stages, {said}")


def _print_sizes(by_stage: dict[str, Estimate], console: Console) -> None:
    """Print parameters, tokens and memory of each training stage; "?" where it is not known yet."""
    if not by_stage:
        return
    columns = (
        Column("training", is_text=True),
        Column("parameters"),
        Column("trained"),
        Column("tokens", is_right=True),
        Column("memory", is_right=True),
    )
    rows: list[tuple[str, ...] | str] = []
    names = list(by_stage)
    for listed in list_stages(names):
        estimate = by_stage[names[listed.place]]
        if listed.begins is not None:
            rows.append(escape(listed.begins.title))
        rows.append(
            (
                escape(listed.label),
                _parameters(estimate),
                _trained(estimate),
                _bounded(estimate, None if estimate.tokens is None else count(estimate.tokens)),
                _bounded(estimate, _memory(estimate)),
            )
        )
    console.print()
    print_table(console, columns, rows)
    notes = ["memory: of a process at its peak, beside 0.6 GB for libraries"]
    bounds = {e.row_tokens for e in by_stage.values() if e.is_upper_bound and e.row_tokens}
    if bounds:
        lengths = " or ".join(f"{length:,}" for length in sorted(bounds))
        notes.append(f"<=: if every row has {lengths} tokens")
    if any("?" in row for row in rows):
        notes.append("?: known once model and data are there")
    console.print(f"[dim]{'; '.join(notes)}[/]", highlight=False)


def _parameters(estimate: Estimate) -> str:
    if estimate.parameters is None:
        return "?"
    return f"{'about ' if estimate.is_about else ''}{count(estimate.parameters)}"


def _trained(estimate: Estimate) -> str:
    if estimate.trained_parameters is None or estimate.parameters is None:
        return "?"
    if estimate.trained_parameters == estimate.parameters:
        return "all"
    has_critic = estimate.trained_parameters > estimate.parameters
    return f"{count(estimate.trained_parameters)}{' with critic' if has_critic else ''}"


def _memory(estimate: Estimate) -> str | None:
    if estimate.memory_bytes is None:
        return None
    return size(int(float(f"{estimate.memory_bytes:.2g}"))).replace(".0 ", " ")


def _bounded(estimate: Estimate, amount: str | None) -> str:
    if amount is None:
        return "?"
    return f"<= {amount}" if estimate.is_upper_bound else amount


def _defaults(plan: Plan) -> Iterator[str]:
    """Yield our defaults where the recipe says nothing, those of the same stages in one line."""
    stages_by_setting: dict[str, list[str]] = {}
    for planned in plan.stages:
        for key, value in training_summary(plan, planned.config).items():
            stages_by_setting.setdefault(f"{key}: {value}", []).append(planned.name)
    settings_by_stages: dict[tuple[str, ...], list[str]] = {}
    for setting, stages in stages_by_setting.items():
        settings_by_stages.setdefault(tuple(stages), []).append(setting)
    if settings_by_stages:
        yield "our defaults, where the recipe says nothing:"
    for stages, settings in settings_by_stages.items():
        yield escape(f"  {', '.join(settings)} ({', '.join(name_together(stages))})")
