"""Answers to free-form prompts side by side on a terminal, read from comparison.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline.text.visible import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

_SHOWN = 3  # prompts of a source; the file has more
_LONGEST = 400  # characters of a prompt or an answer


def print_written(comparison: Mapping[str, Any], console: Console) -> None:
    """Print the first prompts of each source, a row each, with a column for every model."""
    prompts: Sequence[Mapping[str, Any]] = comparison["written"]
    for source in dict.fromkeys(each["source"] for each in prompts):
        of_source = [each for each in prompts if each["source"] == source]
        table = Table(
            box=None, pad_edge=False, show_lines=True, title_justify="left",
            title=f"{escape(source)}: the first {min(_SHOWN, len(of_source))} answers",
        )  # fmt: skip
        table.add_column("prompt", overflow="fold", ratio=1)
        for model in comparison["models"]:
            table.add_column(escape(model), overflow="fold", ratio=1)
        for each in of_source[:_SHOWN]:
            answers = [each["answers"].get(model) for model in comparison["models"]]
            table.add_row(_cut(each["prompt"]), *map(_said, answers), end_section=True)
        console.print(table)


def _said(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return ""
    said = _cut(answer["text"]) if answer["text"] else f"[dim]{escape(answer['reason'])}[/]"
    rewards = [
        f"{escape(name)} {'none' if value is None else f'{value:.2f}'}"
        for name, value in answer["rewards"].items()
    ]
    return f"{said}\n[dim]{', '.join(rewards)}[/]" if rewards else said


def _cut(text: str) -> str:
    whole = text.strip()
    return escape(whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]}…")
