"""How a comparison looks on a terminal."""

import re
from io import StringIO

import pytest
from rich.console import Console

from pipeline.report.terminal.full_comparison import print_comparison
from tests.report_runs import BLANK_ROW, comparison_of

RED, GREEN = "\x1b[31m", "\x1b[32m"


def a_row(**figures) -> dict:
    return {
        "task": "facts",
        "metric": "win_rate",
        "model": "dpo",
        "style": "zero-shot",
        "shots": 0,
        "form": "chat",
        "n": 240,
        "lower_is_better": figures.get("metric") == "bits_per_byte",
        **BLANK_ROW,
        **figures,
    }


def printed(rows=(), *, width=100, **tables) -> str:
    """Return a comparison as it is printed, colours included."""
    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=width)
    content = {"baseline": "sft [v2]", "rows": rows, **tables}
    print_comparison(comparison_of(content), console)
    return written.getvalue()


def plain(text: str) -> str:
    """Return it without colours, each run of spaces as one."""
    return re.sub(r" +", " ", re.sub(r"\x1b\[[\d;]+m", "", text))


def shown(**figures) -> str:
    """Return the line of the only row, which has these figures."""
    row = a_row(**figures)
    text = printed([row])
    if row["metric"] == "win_rate":
        assert "facts: win rate over sft [v2]" in plain(text)
    (line,) = (line for line in text.splitlines() if line.startswith("  dpo"))
    return line


@pytest.mark.parametrize(
    ("low", "high", "colour"),
    [(0.55, 0.7, GREEN), (0.3, 0.45, RED), (0.45, 0.6, ""), (0.5, 0.6, ""), (0.4, 0.5, "")],
)
def test_a_win_rate_is_coloured_where_its_interval_is_clear_of_a_half(low, high, colour):
    line = shown(score=(low + high) / 2, low=low, high=high)
    said = f"{(low + high) / 2:.2f} [{low:.2f}, {high:.2f}]"
    assert said in line
    assert [code for code in (RED, GREEN) if code in line] == ([colour] if colour else [])


@pytest.mark.parametrize(
    ("metric", "low", "high", "colour"),
    [
        ("verified_accuracy", 0.1, 0.3, GREEN),
        ("verified_accuracy", -0.3, -0.1, RED),
        ("verified_accuracy", 0.0, 0.3, ""),
        ("bits_per_byte", -0.3, -0.1, GREEN),
        ("bits_per_byte", 0.1, 0.3, RED),
    ],
)
def test_a_difference_is_coloured_where_its_interval_is_clear_of_zero(metric, low, high, colour):
    delta = (low + high) / 2
    line = shown(metric=metric, score=0.7, low=0.1, high=0.8, delta=delta, delta_low=low,
                 delta_high=high)  # fmt: skip
    assert [code for code in (RED, GREEN) if code in line] == ([colour] if colour else [])


def test_what_could_not_be_measured_is_a_dash():
    assert shown(metric="verified_accuracy").rstrip().endswith("-")


def test_a_wide_terminal_shows_p_flips_what_can_be_found_and_lengths():
    figures = {"p_adjusted": 0.0004, "gained": 12, "lost": 3, "detectable": 0.117, "tokens": 31.4}
    row = a_row(metric="verified_accuracy", score=0.5, low=0.4, high=0.6, delta=0.1, **figures)
    assert "0.50 [0.40, 0.60] +0.10 <0.001 +12 -3 0.12 31" in plain(printed([row], width=140))
    narrow = plain(printed([row], width=60))
    assert "<0.001" not in narrow
    assert "no room for: p; right, wrong; finds; tokens" in narrow


def test_shots_and_forms_say_how_a_model_was_asked():
    text = plain(printed([a_row(style="few-shot", shots=5), a_row(style="none", model="[base]")]))
    assert "dpo, chat, few-shot 5 " in text
    assert "[base], chat 240" in text


def test_what_each_style_unlocks_is_a_column_coloured_where_it_is_clear():
    def cell(score, gain=None, low=None):
        high = None if low is None else 0.9
        ends = {"low": None, "high": None, "gain_low": low, "gain_high": high}
        return {"shots": 0, "n": 9, "score": score, "gain": gain, **ends}

    columns = [
        {"style": "zero-shot", "shots": 0},
        {"style": "few-shot", "shots": 3},
        {"style": "chain-of-thought", "shots": None},
    ]
    line = {"task": "sums", "model": "base", "form": "document"}
    rows = [
        {**line, "metric": "choice_accuracy", "cells": [cell(0.99), cell(0.98, 0.1), None]},
        {**line, "metric": "verified_accuracy", "cells": [cell(0.1), cell(0.4, 0.3, 0.2), None]},
    ]
    text = printed(styles={"columns": columns, "rows": rows})
    assert "task, model zero-shot few-shot 3 chain-of-thought" in plain(text)
    assert "base, document 0.10 0.40 (+0.30)" in plain(text)
    assert "0.99" not in text  # one metric for each task
    assert GREEN + "(+0.30)" in text


def test_divergence_and_notes_are_printed():
    row = {"task": "facts", "model": "dpo", "trained_from": "sft", "style": "zero-shot", "shots": 0,
           "n": 100, "kl": 1.94, "low": 1.2, "high": 2.6, "tokens": 30.2}  # fmt: skip
    text = plain(printed(divergence=[row], notes=["Mind [this]."]))
    assert "facts, dpo, zero-shot sft 100 1.94 [1.20, 2.60] 30" in text
    assert "Mind [this]." in text


def test_a_verdict_names_every_bound_and_what_was_found():
    condition = {"key": "facts", "bound": "delta_low", "limit": 0.0, "holds": False,
                 "value": -0.04, "metric": "verified_accuracy", "style": None, "shots": None,
                 "reason": "facts: the lower end, -0.04, is below 0"}  # fmt: skip
    verdicts = [
        {"model": "dpo", "ships": False, "conditions": [condition]},
        {"model": "sft", "ships": True, "conditions": [condition | {"holds": True}]},
    ]
    text = printed(gate={"ships": False, "verdicts": verdicts})
    assert "dpo: DO NOT SHIP\n fails facts delta_low: 0; facts: the lower end, -0.04" in plain(text)
    assert "sft: SHIP\n holds facts" in plain(text)
    assert RED in text
