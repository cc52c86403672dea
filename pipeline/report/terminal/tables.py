"""Tables for a terminal of any width: figures are never cut, names alone are wrapped.

Rich decides widths by itself and takes from every column where a table does not fit, so that `100`
is printed as `10`. Here a column of figures is as wide as its figures or is left out, the least
important one first; where even the important ones do not fit, each row becomes a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

_GAP = 2  # spaces between columns
# Columns that a name gets at least, before figures are left out and before a row is broken up.
_EASY_TEXT, _LEAST_TEXT = 26, 12
_LEAST_LINE = 20  # what a terminal is taken to have at least


@dataclass(frozen=True)
class Column:
    """A column. is_text: its cells may be wrapped; others are figures.

    name: plain text, no markup. is_right: aligned to the right. rank: 0 is always shown, others are
    left out where there is no room, the highest first.
    """

    name: str
    is_text: bool = False
    is_right: bool = False
    rank: int = 0


def print_table(
    console: Console,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str] | str],
    *,
    title: str = "",
) -> tuple[str, ...]:
    """Print rows of cells in Rich's markup; return the names of columns that had no room.

    A row that is one text goes over the whole width, as a heading of the rows below it.
    """
    texts = _parse(rows)
    width = max(console.width, _LEAST_LINE)
    natural = _natural_widths(columns, texts)
    shown = _choose(columns, natural, width)
    if title:
        _print(console, _wrapped(console, Text.from_markup(f"[italic]{title}[/]"), width))
    if shown is None:
        _print_stacked(console, columns, texts, width)
        return ()
    widths = _widths([columns[place] for place in shown], [natural[p] for p in shown], width)
    head = [Text(columns[place].name, style="bold") for place in shown]
    chosen = [columns[place] for place in shown]
    headings = [Column(column.name, is_text=True, is_right=column.is_right) for column in chosen]
    _print(console, _lines(console, headings, widths, head))
    for row in texts:
        if isinstance(row, Text):
            _print(console, _wrapped(console, row, width))
        else:
            _print(console, _lines(console, chosen, widths, [row[place] for place in shown]))
    return tuple(column.name for place, column in enumerate(columns) if place not in shown)


def print_wrapped(console: Console, markup: str) -> None:
    """Print a line of Rich's markup, wrapped as wide as the terminal with its indentation kept."""
    width = max(console.width, _LEAST_LINE)
    _print(console, _wrapped(console, Text.from_markup(markup), width))


def fits_unwrapped(
    console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]]
) -> bool:
    """Whether the columns of rank 0 have room with no text wrapped."""
    natural = _natural_widths(columns, _parse(rows))
    widths = [natural[place] for place, column in enumerate(columns) if not column.rank]
    return sum(widths) + _GAP * (len(widths) - 1) <= max(console.width, _LEAST_LINE)


def has_room(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> bool:
    """Whether the columns of rank 0 have room beside each other, texts wrapped."""
    natural = _natural_widths(columns, _parse(rows))
    return _choose(columns, natural, max(console.width, _LEAST_LINE)) is not None


def _parse(rows: Iterable[Sequence[str] | str]) -> list[Text | list[Text]]:
    return [
        Text.from_markup(row) if isinstance(row, str) else [Text.from_markup(cell) for cell in row]
        for row in rows
    ]


def _natural_widths(columns: Sequence[Column], rows: Iterable[Text | list[Text]]) -> list[int]:
    """Return the width of each column with nothing wrapped in it, by the order of `columns`."""
    cells = [row for row in rows if isinstance(row, list)]
    return [
        max([_least_name(column), *(len_of(row[place]) for row in cells)])
        for place, column in enumerate(columns)
    ]


def _least_name(column: Column) -> int:
    """Return the width that a column's name needs: that of its longest word, if it has figures."""
    words = [column.name] if column.is_text else column.name.split() or [""]
    return max(len_of(Text(word)) for word in words)


def len_of(text: Text) -> int:
    """Return how many columns of a terminal the widest line of a text takes."""
    return max((line.cell_len for line in text.split("\n")), default=0)


def _choose(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int] | None:
    """Return which columns there is room for; None where not even those of rank 0 fit."""
    shown = list(range(len(columns)))

    def needed(least_text: int) -> int:
        sizes = (
            min(natural[place], least_text) if columns[place].is_text else natural[place]
            for place in shown
        )
        return sum(sizes) + _GAP * (len(shown) - 1)

    def drop_least() -> None:
        shown.remove(max(shown, key=lambda place: (columns[place].rank, place)))

    while needed(_EASY_TEXT) > width and any(columns[place].rank for place in shown):
        drop_least()
    if needed(_LEAST_TEXT) > width:
        return None
    everything = max(natural, default=0)
    least = sum(natural[place] + _GAP for place in shown if not columns[place].rank) - _GAP
    while needed(everything) > width >= least and any(columns[place].rank for place in shown):
        drop_least()  # then no text is wrapped
    return shown


def _widths(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the columns' widths: figures as they are, the rest among the texts, short ones first.

    What a short text does not need goes to the longer ones.
    """
    widths = list(natural)
    texts = sorted((p for p, c in enumerate(columns) if c.is_text), key=lambda p: natural[p])
    room = width - _GAP * (len(columns) - 1)
    room -= sum(size for p, size in enumerate(natural) if p not in texts)
    for number, place in enumerate(texts):
        widths[place] = min(natural[place], max(1, room // (len(texts) - number)))
        room -= widths[place]
    return widths


def _lines(
    console: Console, columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]
) -> list[Text]:
    """Return the lines of one row: wrapped texts, figures on the first of them."""
    parts = [
        _wrapped(console, cell, width) if column.is_text else list(cell.split("\n"))
        for column, width, cell in zip(columns, widths, cells, strict=True)
    ]
    lines: list[Text] = []
    for number in range(max(len(part) for part in parts)):
        line = Text()
        for place, (column, width, part) in enumerate(zip(columns, widths, parts, strict=True)):
            cell = part[number] if number < len(part) else Text()
            padding = " " * (width - cell.cell_len)
            line.append(" " * _GAP if place else "")
            if column.is_right:
                line.append(padding)
            line.append_text(cell)
            if not column.is_right and place < len(parts) - 1:
                line.append(padding)
        line.rstrip()
        lines.append(line)
    return lines


def _wrapped(console: Console, text: Text, width: int) -> list[Text]:
    """Return a text in lines of a width; a line that is continued keeps its indentation."""
    plain = text.plain
    indent = len(plain) - len(plain.lstrip(" "))
    if not plain.strip() or text.cell_len <= width or indent >= width - 1:
        return list(text.wrap(console, width, overflow="fold")) or [Text()]
    rest = text[indent:]
    lines = rest.wrap(console, width - indent, overflow="fold")
    return [Text(" " * indent) + line for line in lines]


def _print_stacked(
    console: Console, columns: Sequence[Column], rows: Iterable[Text | list[Text]], width: int
) -> None:
    """Print a row as a few lines: its name, and each figure with its column's name before it."""
    for row in rows:
        if isinstance(row, Text):
            _print(console, _wrapped(console, row, width))
            continue
        first, *others = zip(columns, row, strict=True)
        _print(console, _wrapped(console, first[1], width))
        for column, cell in others:
            if not cell.plain.strip():
                continue
            name = Text(f"    {column.name} " if column.name else "    ", style="dim")
            whole = Text(" ").join(cell.split("\n"))
            _print(console, _wrapped(console, Text.assemble(name, whole), width))


def _print(console: Console, lines: Iterable[Text]) -> None:
    """Print lines as they are: a terminal that is too narrow for one wraps it, nothing is cut."""
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
