"""Lines of answers that grow: what was let go never changes, and nothing is lost or acted on."""

import io
import random

import pytest
from rich.cells import cell_len
from rich.console import Console

from pipeline.chat.layout import Column, lay_out
from pipeline.chat.session import begin_answer
from pipeline.chat.settings import Settings

PIECES = [
    *("a", "word", " the", " answer", " is", ".", ",", "\n", "\n\n", "  ", "\t", "中国", "🦙"),
    *("x" * 50, " \x1b[31m", "\r\n", "\u202e", "[bold]", " longer-than-others"),
]


def columns_of(model, names):
    return [
        Column(name, begin_answer(model, (), "Hi", Settings()), is_document=False) for name in names
    ]


@pytest.mark.parametrize("width", [30, 79, 80, 121])
@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_settled_lines_stay_and_in_the_end_all_is_there(chat_model, names, width):
    console = Console(file=io.StringIO(), width=width)
    dice = random.Random(width)
    columns = columns_of(chat_model, names)
    lengths = [dice.randrange(20, 120) for _ in names]
    before = []
    for step in range(max(lengths) + 1):
        for column, length in zip(columns, lengths, strict=True):
            column.is_over = column.is_over or step >= length
            if not column.is_over:
                column.answer.segments[0].text += dice.choice(PIECES)
        found = lay_out(columns, console, width)
        settled = [line.plain for line in found.settled]
        assert settled[: len(before)] == before
        before = settled
        for line in found.settled + found.open:
            assert cell_len(line.plain) <= width
            assert line.plain.isprintable()
    assert not found.open
    whole = "".join("".join(before).split())
    if len(names) == 1 or width < 80:
        for column in columns:
            text = column.answer.text.replace("\r\n", "\n").replace("\x1b", "\\x1b")
            assert "".join(text.replace("\u202e", "\\u202e").split()) in whole


def test_two_answers_stand_side_by_side_on_a_wide_terminal_only(chat_model):
    columns = columns_of(chat_model, ["one", "two"])
    columns[0].answer.segments[0].text = "left words"
    columns[1].answer.segments[0].text = "right words"
    for column in columns:
        column.is_over = True

    def rows(width):
        found = lay_out(columns, Console(file=io.StringIO(), width=width), width)
        return [line.plain for line in found.settled]

    assert any("left words" in row and "│ right words" in row for row in rows(80))
    narrow = rows(79)
    assert not any("│" in row for row in narrow)
    assert narrow.index("  left words") < narrow.index("  two") < narrow.index("  right words")


def test_what_a_model_could_do_to_a_terminal_is_shown_instead(chat_model):
    (column,) = columns_of(chat_model, ["one"])
    column.answer.segments[0].text = "\x1b]0;title\x07 \x9b2J over\rwritten [red]x[/red]"
    column.is_over = True
    found = lay_out([column], Console(file=io.StringIO(), width=100), 100)
    assert found.settled[0].plain == ("  \\x1b]0;title\\x07 \\x9b2J over\\x0dwritten [red]x[/red]")
