"""What a run's stages look like on a terminal: at its end, and for `posttrain status`.

Comparisons are comparison.py's subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.label_balance import PAIRS_SPLIT, WARNING
from pipeline.data.encoding.lengths import SPELLED, describe_rows, is_worth_a_warning
from pipeline.report import made_rows, rollouts
from pipeline.report.headline import headline
from pipeline.report.point_rows import list_stages
from pipeline.report.ranked import describe_left_out
from pipeline.report.screening import summarize_screening
from pipeline.report.terminal.tables import Column, print_table
from pipeline.text.amounts import size
from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from pipeline.commands.status import StageState
    from pipeline.report.point_rows import Grid
    from pipeline.run.outcomes import Outcome

_STATUS_STYLE = {
    "cached": "dim",
    "ran": "green",
    "resumed": "green",
}
_LOSSES = ("dropped_too_long", "dropped_equal", "dropped_unusable", "cut")


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print a table of the stages with what came of each."""
    from pipeline.run.progress import clock  # its bars take long to import

    columns = (
        Column("stage", is_text=True),
        Column(""),
        Column("time", is_right=True),
        Column("size", is_right=True, rank=1),
        Column("result", is_text=True),
    )
    rows: list[tuple[str, ...] | str] = []
    for listed in list_stages([outcome.name for outcome in outcomes]):
        outcome = outcomes[listed.place]
        if listed.begins is not None:
            rows.append(escape(f"{listed.begins.title}: {len(listed.begins.points)} stages"))
        rows.append(
            (
                escape(listed.label),
                _status(outcome.status),
                clock(outcome.artifact.provenance["seconds"]),
                size(outcome.artifact.size_bytes),
                escape(headline(outcome.artifact)),
            )
        )
    print_table(console, columns, rows)


def print_losses_of_rows(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print, a line each, which of the stages that ran lost, padded or screened rows."""
    for outcome in outcomes:
        if outcome.status == "cached":
            continue
        metrics = outcome.artifact.metrics
        if outcome.artifact.produces == made_rows.KIND:
            _print_made(outcome.name, metrics, console)
        elif _has_lost_rows(metrics):
            print_account(outcome.name, metrics, console)
        if outcome.artifact.produces != made_rows.KIND:
            _print_judges(outcome.name, metrics, console)
        for line, is_warning in describe_left_out(metrics):
            said = f"{outcome.name}: {'warning: ' if is_warning else ''}{line}"
            console.print(
                f"[{'yellow' if is_warning else 'dim'}]{escape(said)}[/]", highlight=False
            )
        for line in summarize_screening(metrics):
            console.print(f"[yellow]{escape(f'{outcome.name}: {line}')}[/]", highlight=False)
        _print_padding(outcome.name, metrics, console)


def _print_made(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Print what was left out of the rows that a stage made: as a warning where that is much."""
    account = made_rows.describe_made(metrics)
    if account and made_rows.is_loss_worth_a_warning(metrics):
        console.print(f"[yellow]{escape(f'{name}: warning: {account}')}[/]", highlight=False)
    elif account:
        console.print(f"[dim]{escape(f'{name}: {account}')}[/]", highlight=False)


def _print_judges(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Print what judges were asked by a stage that makes no rows: a warning where many failed."""
    said = made_rows.describe_judges(metrics)
    if made_rows.are_many_unanswered(metrics):
        console.print(f"[yellow]{escape(f'{name}: warning: {said}')}[/]", highlight=False)
    elif said:
        console.print(f"[dim]{escape(f'{name}: {said}')}[/]", highlight=False)


def _print_padding(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Say that rows of a training stage were padded since its model cannot take them packed."""
    packing = str(metrics.get("packing", ""))
    if packing.startswith("padded, since"):
        share = f"; at most {metrics['padding_share']:.0%} of it is padding"
        console.print(f"[dim]{escape(name)}: rows {escape(packing)}{share}[/]", highlight=False)


def _has_lost_rows(metrics: Mapping[str, Any]) -> bool:
    """Whether any row was dropped, cut or taken apart, or is not what it seems."""
    keys = (f"{noun}_{key}" for noun in ("rows", "prompts", "held_out") for key in _LOSSES)
    return any(metrics.get(key) for key in (*keys, SPELLED, PAIRS_SPLIT, WARNING, "not_used"))


def _status(status: str) -> str:
    return f"[{_STATUS_STYLE[status]}]{status}[/]"


def print_account(name: str, metrics: Mapping[str, Any], console: Console) -> None:
    """Print what became of a stage's rows: as a warning where more than a few were lost."""
    account = describe_rows(metrics)
    if account and is_worth_a_warning(metrics):
        console.print(f"[yellow]{escape(name)}: warning: {account}[/]", highlight=False)
    elif account:
        console.print(f"[dim]{escape(name)}: {account}[/]", highlight=False)


def print_states(
    states: Sequence[StageState], console: Console, *, results: Mapping[str, str], links: Path
) -> None:
    """Print what is there of each stage, and where.

    results: what came of each finished stage, in a few words. links: the folder of the run.
    """
    columns = (
        Column("stage", is_text=True),
        Column("kind", rank=1),
        Column("state", is_text=True),
        Column("size", is_right=True),
        Column("result", is_text=True),
    )
    rows: list[tuple[str, ...] | str] = []
    for listed in list_stages([state.name for state in states]):
        state = states[listed.place]
        if listed.begins is not None:
            rows.append(_grid_line(listed.begins, states, results))
        rows.append(
            (
                escape(listed.label),
                escape(state.kind),
                escape(state.state),
                size(state.size_bytes) if state.size_bytes else "",
                escape(results.get(state.name, "")),
            )
        )
    rows.append(("", "", "in all", size(sum(state.size_bytes for state in states)), ""))
    print_table(console, columns, rows)
    _print_folders(states, console, links)
    for state in states:
        is_finished = state.name in results
        if state.kind in rollouts.KINDS and state.folder is not None and not is_finished:
            _print_rollouts(state.name, state.folder / "out", console)


def _grid_line(grid: Grid, states: Sequence[StageState], results: Mapping[str, str]) -> str:
    """Return the line above the stages of a sweep: how many are done, and their size."""
    own = [state for state in states if state.name in grid.points]
    done = sum(state.name in results for state in own)
    size_bytes = sum(state.size_bytes for state in own)
    said = f"{grid.title}: {done} of {len(own)} stages done"
    return escape(f"{said}, {size(size_bytes)}" if size_bytes else said)


def _print_folders(states: Sequence[StageState], console: Console, links: Path) -> None:
    """Print where the stages are: those that the run links to in one line, then the others."""
    linked = [
        state for state in states if state.folder and _leads_to(links / state.name, state.folder)
    ]
    if linked:
        line = f"folders: {links}/{linked[0].name if len(linked) == 1 else 'STAGE'}"
        console.print(escape(line), style="dim", highlight=False, soft_wrap=True)
    for state in states:
        if state.folder is not None and state not in linked:
            line = escape(f"{state.name}: {state.folder}")
            console.print(line, style="dim", highlight=False, soft_wrap=True)


def _leads_to(link: Path, folder: Path) -> bool:
    """Whether a link leads to a folder; no link does whose name no file can have."""
    try:
        return link.resolve() == folder.resolve()
    except ValueError:
        return False


def _print_rollouts(name: str, folder: Path, console: Console) -> None:
    """Print how an unfinished stage on rollouts goes: score, KL, gold score; no other logs any."""
    line = rollouts.summarize_rollouts(rollouts.read_rollouts(folder, is_finished=False))
    if line:
        console.print(f"[dim]{escape(name)}: {escape(line)}[/]", highlight=False)
