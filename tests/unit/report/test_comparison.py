"""How a comparison looks on a terminal."""

import re
from io import StringIO

import pytest
from rich.console import Console

from pipeline.report.terminal import print_comparison

RED, GREEN = "\x1b[31m", "\x1b[32m"


def shown(**figures) -> str:
    """Return the last line of a table whose only row has these figures."""
    row = {
        "task": "facts",
        "metric": "win_rate",
        "model": "dpo",
        "style": "zero-shot",
        "form": "chat",
        "n": 240,
        **dict.fromkeys(("score", "low", "high", "delta", "delta_low", "delta_high")),
        **figures,
    }
    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=120)
    print_comparison({"baseline": "sft [v2]", "rows": [row]}, console)
    text = written.getvalue()
    if row["metric"] == "win_rate":
        assert "facts: win rate over sft [v2]" in re.sub(r"\x1b\[\d+m", "", text)
    return text.rstrip().splitlines()[-1]


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
