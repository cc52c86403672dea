"""What others wrote is shown without acting on a terminal or on the reading direction."""

import json
import re
import unicodedata
from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from pipeline.report.terminal.full_comparison import print_comparison
from pipeline.text.visible import escape, visible
from tests.hostile_texts import HOSTILE, hostile
from tests.report_runs import comparison_of, write_run


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("over\rwritten", "over\\x0dwritten"),
        ("back\b\x7f", "back\\x08\\x7f"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028line", "line\\u2028line"),
        ("hidden\U000e0041", "hidden\\U000e0041"),
        ("half\ud83d", "half\\ud83d"),
        ("nul\x00", "nul\\x00"),
    ],
)
def test_what_acts_unseen_becomes_an_escape(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\nc",
        "\u00e9\u00df\u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \u2192",
        "\u2764\ufe0f \U0001f600",
        "<b>&amp;</b>",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert visible(text) == text


def test_of_a_windows_line_end_the_newline_stays():
    assert visible("one\r\ntwo") == "one\ntwo"


def test_no_control_format_or_surrogate_character_is_left():
    everything = "".join(map(chr, range(0x110000)))
    left = {c for c in visible(everything) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert left == {"\n", "\t"}
    formats = {c for c in visible(everything) if unicodedata.category(c) == "Cf"}
    seen = ("ARABIC", "KAITHI", "SYRIAC")  # their signs around numbers are drawn
    assert all(unicodedata.name(c).startswith(seen) for c in formats)
    visible(everything).encode("utf-8")


def test_a_comparison_of_hostile_names_is_printed_without_a_command_or_a_markup_of_theirs(tmp_path):
    write_run(tmp_path, told=hostile)
    path = next((tmp_path / "store").glob("compare-*")) / "comparison.json"
    found = json.loads(path.read_text())
    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=400)
    print_comparison(comparison_of(found), console)
    said = written.getvalue()
    styles = re.compile(r"\x1b\[\d+(;\d+)*m")  # Rich's own
    assert styles.search(said)
    assert visible(styles.sub("", said)) == styles.sub("", said)
    assert visible(found["gate"]["verdicts"][0]["model"]) in styles.sub("", said)
    for text in HOSTILE:
        assert escape(text).count("\x1b") == 0
        assert Text.from_markup(escape(text)).plain == visible(text)
