"""Answers to free-form prompts side by side on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.text.visible import escape

if TYPE_CHECKING:
    from rich.console import Console

    from eval.comparison.comparison import Comparison
    from eval.comparison.free_form import Answer

_SHOWN = 3  # prompts of a source; the file has more
_LONGEST = 400  # characters of a prompt or an answer


def print_written(comparison: Comparison, console: Console) -> None:
    """Print the first prompts of each source, a row per prompt and a column per model."""
    prompts = comparison.written
    for source in dict.fromkeys(prompt.source for prompt in prompts):
        of_source = [prompt for prompt in prompts if prompt.source == source]
        table = Table(
            box=None, pad_edge=False, show_lines=True, title_justify="left",
            title=f"{escape(source)}: the first {min(_SHOWN, len(of_source))} answers",
        )  # fmt: skip
        table.add_column("prompt", overflow="fold", ratio=1)
        for model in comparison.models:
            table.add_column(escape(model), overflow="fold", ratio=1)
        for prompt in of_source[:_SHOWN]:
            answers = [prompt.answers.get(model) for model in comparison.models]
            table.add_row(_cut(prompt.prompt), *map(_answer, answers), end_section=True)
        console.print(table)


def _answer(answer: Answer | None) -> str:
    if answer is None:
        return ""
    text = _cut(answer.text) if answer.text else f"[dim]{escape(answer.reason)}[/]"
    rewards = [
        f"{escape(name)} {'none' if value is None else f'{value:.2f}'}"
        for name, value in answer.rewards.items()
    ]
    return f"{text}\n[dim]{', '.join(rewards)}[/]" if rewards else text


def _cut(text: str) -> str:
    whole = text.strip()
    return escape(whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]}…")
