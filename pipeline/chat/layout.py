"""Answers that grow, as lines of a terminal: one below the other, or two side by side.

Says of each line whether it can still change, so that whoever prints it can let go of the others.
Prints nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.text import Text

from pipeline.chat.pictures import no_picture
from pipeline.text.pictures import block_lines
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from pipeline.chat.generation import Answer, Segment
    from pipeline.chat.pictures import Pictures

SIDE_BY_SIDE_FROM = 80  # columns
_MARGIN = 2
_BETWEEN = " │ "
_MAX_WIDTH = 100  # of a line that is comfortable to read
_LEAD = 48  # characters of the text that is continued


@dataclass
class Column:
    """An answer and what stands above it; is_over: nothing more will come.

    pictures: finds those among its answers.
    """

    name: str
    answer: Answer
    is_document: bool
    is_over: bool = False
    pictures: Pictures = no_picture


@dataclass(frozen=True)
class Lines:
    """settled: stay as they are from now on. open: may still change."""

    settled: list[Text]
    open: list[Text]


def lay_out(columns: Sequence[Column], console: Console, width: int) -> Lines:
    """Lay columns out for so many character cells, side by side where that is wide enough."""
    if len(columns) > 1 and width >= SIDE_BY_SIDE_FROM:
        return _lay_out_beside(columns, console, width)
    return _lay_out_below(columns, console, width)


def _lay_out_below(columns: Sequence[Column], console: Console, width: int) -> Lines:
    settled: list[Text] = []
    unsettled: list[Text] = []
    margin = Text(" " * _MARGIN)
    for column in columns:
        laid_out = _column(column, console, min(width - 2 * _MARGIN, _MAX_WIDTH))
        if len(columns) > 1:
            laid_out.settled.insert(0, Text(column.name, style="bold cyan"))
        if column is not columns[0]:
            laid_out.settled.insert(0, Text())
        # Below an answer that may still grow nothing stays where it is.
        (unsettled if unsettled else settled).extend(margin + line for line in laid_out.settled)
        unsettled.extend(margin + line for line in laid_out.open)
    return Lines(settled, unsettled)


def _lay_out_beside(columns: Sequence[Column], console: Console, width: int) -> Lines:
    width = min((width - _MARGIN - len(_BETWEEN) * (len(columns) - 1)) // len(columns), _MAX_WIDTH)
    titles = [Text(column.name, style="bold cyan") for column in columns]
    rules = [Text("─" * width, style="dim") for _ in columns]
    laid_out = [_column(column, console, width) for column in columns]
    growing = [
        len(lines.settled)
        for column, lines in zip(columns, laid_out, strict=True)
        if not column.is_over
    ]
    height = min(growing) if growing else max(len(lines.settled) for lines in laid_out)
    whole = [lines.settled + lines.open for lines in laid_out]
    rows = [_row(texts, width) for texts in zip_longest(*whole)]
    head = [_row(titles, width), _row(rules, width, between="─┼─")]
    return Lines(head + rows[:height], rows[height:])


def _row(texts: Sequence[Text | None], width: int, *, between: str = _BETWEEN) -> Text:
    row = Text(" " * _MARGIN)
    for number, text in enumerate(texts):
        if number > 0:
            row.append(between, style="dim")
        cell = text.copy() if text else Text()
        cell.truncate(width, pad=number + 1 < len(texts))
        row.append_text(cell)
    return row


def _column(column: Column, console: Console, width: int) -> Lines:
    """Return an answer's own lines and, once it is over, what it took."""
    answer = column.answer
    lead = _lead(answer.prompt) if column.is_document else ""
    text = Text.assemble((lead, "dim"), *map(_segment, answer.segments))
    wrapped = list(text.wrap(console, width, tab_size=4, overflow="fold"))
    # A word that grows may move to the next line, but none before the last can. Empty lines wait
    # for what follows: those at the very end are dropped.
    certain = len(wrapped) if column.is_over else len(wrapped) - 1
    while certain > 0 and not wrapped[certain - 1].plain.strip():
        certain -= 1
    left_out = _note_left_out(column)
    above = list(Text(left_out, style="yellow").wrap(console, width)) if left_out else []
    settled = above + wrapped[:certain]
    if column.is_over:
        levels = column.pictures(answer.reply)
        settled += [] if levels is None else block_lines(levels)
        return Lines([*settled, *Text(_usage(answer), style="dim").wrap(console, width)], [])
    return Lines(settled, wrapped[certain:])


def _segment(segment: Segment) -> Text:
    """Return a part of an answer; what tools answered on lines of its own."""
    if not segment.is_tool:
        return Text(visible(segment.text))
    return Text(f"\n{visible(segment.text)}\n", style="cyan")


def _lead(prompt: str) -> str:
    """Return the end of the text that a document model continues."""
    last = visible(prompt).rpartition("\n")[2]
    return last if len(last) <= _LEAD else f"…{last[1 - _LEAD :]}"


def _note_left_out(column: Column) -> str:
    number = column.answer.left_out
    what = "token" if column.is_document else "exchange"
    if number > 1:
        return f"no longer fit: the {number} oldest {what}s"
    return f"no longer fits: the oldest {what}" if number else ""


def _usage(answer: Answer) -> str:
    rate = answer.num_tokens / answer.seconds if answer.seconds else 0
    rate_text = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    usage = f"{answer.num_tokens} tokens · {rate_text} tokens/s"
    endings = {
        None: " · stopped",
        "eos": "",
        "length": " · cut, /max allows more",
        "full": " · all positions of the model are full",
    }
    return usage + endings[answer.ended]
