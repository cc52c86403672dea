"""Tables on terminals of any width: every figure is there, whole; names are wrapped."""

import re
from io import StringIO

import pytest
from rich.console import Console

from pipeline.report.terminal.comparison import print_overview
from pipeline.report.terminal.full_comparison import print_comparison
from pipeline.report.terminal.pooled import print_pooled
from pipeline.report.terminal.tables import Column, print_table
from tests.report_runs import _comparison, comparison_of, plain, pooled_of, shown

WIDTHS = (20, 40, 60, 80, 100, 120, 200)
FIGURE = re.compile(r"[+-]?\d+\.\d+|\b\d+\b")


def console(width):
    written = StringIO()
    return Console(file=written, width=width, color_system=None), written


def words(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_cut_or_wrapped_at_any_width(width):
    screen, written = console(width)
    columns = (Column("a rather long name", is_text=True), Column("n"), Column("p", rank=1))
    rows = [("a name of several words that goes on and on", "123456", "0.987"), "a heading"]
    hidden = print_table(screen, columns, rows)
    said = written.getvalue()
    assert "123456" in said
    assert ("0.987" in said) == ("p" not in hidden)
    assert "a heading" in said
    assert all(len(line) <= width for line in said.splitlines())


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_has_every_score_and_interval_whole(width):
    found = _comparison(plain)
    screen, written = console(width)
    print_comparison(comparison_of(found), screen)
    said = words(written.getvalue())
    for row in found["rows"]:
        digits = 3 if row["metric"] == "bits_per_byte" else 2
        shown = f"{row['score']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
        assert shown in said
        assert str(row["n"]) in FIGURE.findall(said)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_screen_at_a_runs_end_has_every_score_of_the_best_ways(width):
    screen, written = console(width)
    print_overview(shown(_comparison(plain), "compare"), screen)
    said = words(written.getvalue())
    for figure in ("0.76", "+0.43", "0.70", "-0.27", "1.360", "+0.150"):
        assert figure in FIGURE.findall(said)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_over_seeds_has_every_mean_whole(width):
    figures = {"by_seed": [0.51, 0.63], "deviation": 0.1, "mean": 0.57, "low": 0.41, "high": 0.73}
    spread = {**figures, "smallest": 0.51, "largest": 0.63}
    row = {"task": "facts", "metric": "verified_accuracy", "model": "sft", "n": [100, 100]}
    row |= {"style": "zero-shot", "shots": 0, "form": "chat", "lower_is_better": False}
    row |= {"score": spread, "delta": spread}
    screen, written = console(width)
    pooled = {"baseline": "base", "seeds": [1, 2], "rows": [row], "gate": None}
    print_pooled("compare", pooled_of(pooled), screen)
    said = words(written.getvalue())
    assert "0.57 [0.41, 0.73]" in said
    assert "+0.57 [+0.41, +0.73]" in said
    assert "100" in FIGURE.findall(said)


def test_columns_are_left_out_by_rank_and_named():
    columns = (
        Column("name", is_text=True),
        Column("score"),
        Column("less", rank=1),
        Column("least", rank=2),
    )
    rows = [("facts", "0.50", "x" * 12, "y" * 12)]
    for width, hidden in ((60, ()), (34, ("least",)), (20, ("less", "least"))):
        screen, written = console(width)
        assert print_table(screen, columns, rows) == hidden
        assert "0.50" in written.getvalue()


def test_a_row_becomes_a_few_lines_where_not_even_its_figures_fit():
    screen, written = console(24)
    columns = (Column("name", is_text=True), Column("score"), Column("difference"))
    print_table(screen, columns, [("facts", "0.50 [0.40, 0.60]", "+0.10 [+0.00, +0.20]")])
    assert written.getvalue().splitlines()[0] == "facts"
    assert "score 0.50 [0.40, 0.60]" in words(written.getvalue())
