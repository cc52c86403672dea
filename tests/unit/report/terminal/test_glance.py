"""The screen that a run ends with: few rows, the mean over tasks, words that agree with figures."""

import json
import math
import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from eval.statistics.estimate import Estimate
from eval.statistics.task_mean import mean_over_tasks
from pipeline.report.board import board, rests_on, unguarded_losses
from pipeline.report.terminal.comparison import print_comparisons, print_overview
from tests.report_runs import _comparison, plain, shown


def said_of(raw, width=100):
    written = StringIO()
    screen = Console(file=written, width=width, color_system=None)
    print_overview(shown(raw, "compare"), screen)
    return re.sub(r" +", " ", written.getvalue())


def test_the_mean_over_tasks_has_the_interval_of_items_resampled_within_tasks():
    draws = np.random.default_rng(5)
    tasks = [draws.random(200) < share for share in (0.2, 0.55, 0.8)]
    half = [1.96 * math.sqrt(t.mean() * (1 - t.mean()) / len(t)) for t in tasks]
    figures = [
        Estimate(t.mean(), t.mean() - h, t.mean() + h) for t, h in zip(tasks, half, strict=True)
    ]
    found = mean_over_tasks(figures)
    again = [np.mean([draws.choice(task, len(task)).mean() for task in tasks]) for _ in range(4000)]
    low, high = np.quantile(again, (0.025, 0.975))
    assert found.value == pytest.approx(np.mean([t.mean() for t in tasks]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)


def test_a_mean_has_no_interval_where_one_task_has_none():
    assert mean_over_tasks([Estimate(0.5, 0.4, 0.6), Estimate(0.7)]) == Estimate(0.6, None, None)
    assert mean_over_tasks([]) is None


def test_each_task_has_one_row_and_the_mean_stands_below_with_its_interval():
    lines = said_of(_comparison(plain)).splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("arithmetic", "recall"))] == [
        "arithmetic",
        "recall",
    ]
    assert any(line.startswith("preferred to base's, recall 0.61 0.61") for line in lines)
    (mean,) = (line for line in lines if line.startswith("mean of 2 tasks"))
    assert mean == "mean of 2 tasks 0.65 0.74 +0.09 0.73 +0.08"


def test_a_stage_of_a_sweep_heads_its_column_as_it_is_called():
    raw = _comparison(plain)
    name = raw["models"][1]
    text = json.dumps(raw).replace(f'"{name}"', '"tuned[rate=0.001]"')
    said = said_of(json.loads(text), width=140)
    assert "tuned[rate=0.001]" in said
    assert "\\" not in said


def four_candidates_on_eight_tasks(raw):
    first = [row for row in raw["rows"] if row["task"] == "recall" and row["metric"][0] == "v"]
    first += [row | {"model": name} for row in first[-1:] for name in ("dpo", "fourth")]
    rows = [row | {"task": f"a task ({number})"} for number in range(8) for row in first]
    return raw | {"rows": rows, "models": [*raw["models"], "dpo", "fourth"], "gate": None}


def ended(raws, width):
    written = StringIO()
    screen = Console(file=written, width=width, color_system=None)
    print_comparisons([shown(raw, name) for name, raw in raws.items()], screen)
    return written.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_screen_is_enough_for_five_models_and_eight_tasks(width):
    lines = ended({"compare": four_candidates_on_eight_tasks(_comparison(plain))}, width)
    assert len(lines.splitlines()) < 20
    assert max(map(len, lines.splitlines())) <= width
    assert len(re.findall(r"^a task \(\d\)  .*0\.97  .*0\.70 -0\.27", lines, re.MULTILINE)) == 8
    assert len(re.findall(r"\[-0\.\d\d, -0\.\d\d\]", lines)) == 4  # of the means


def test_an_end_shows_one_table_and_a_line_of_each_other_comparison():
    raw = _comparison(plain)
    lines = ended({"first": raw | {"gate": None}, "gated": raw}, 100).splitlines()
    assert lines[0].startswith("gated: each model")
    (at,) = (number for number, line in enumerate(lines) if line.startswith("first"))
    line = "first (against base): mean of 2 tasks tuned 0.74 +0.09, ppo 0.73 +0.08"
    assert lines[at] == line
    assert any(line.startswith("  ppo loses: recall") for line in lines[at:])


def test_a_loss_that_no_table_shows_is_told_without_a_gate_too():
    said = ended({"compare": _comparison(plain) | {"gate": None}}, 100)
    assert not re.search(r"^stories.txt", said, re.MULTILINE)
    assert "ppo also loses: stories.txt (bits per byte) +0.150" in said


def test_ship_says_which_conditions_it_rests_on_and_which_losses_it_passes_over():
    raw = _comparison(plain)
    for row in raw["rows"]:
        if (row["task"], row["model"]) == ("stories.txt", "tuned"):
            row |= {"delta": 0.12, "delta_low": 0.1, "delta_high": 0.14}
    comparison = shown(raw, "compare")
    verdict = comparison.gate.verdicts[0]
    assert verdict.ships
    assert rests_on(verdict) == "recall: difference at least \N{MINUS SIGN}0.1"
    assert [row.task for row in unguarded_losses(verdict, comparison)] == ["stories.txt"]
    said = re.sub(r"\s+", " ", said_of(raw))
    passed_over = "unguarded losses: stories.txt (bits per byte)"
    assert (
        f"SHIP rests on recall: difference at least -0.1 tuned SHIP; {passed_over} +0.120" in said
    )
    assert f"ppo DO NOT SHIP: fails recall (-0.320); {passed_over} +0.150" in said


def test_a_loss_that_a_condition_looks_at_is_not_told_as_passed_over():
    comparison = shown(_comparison(plain), "compare")
    refused = comparison.gate.verdicts[1]
    losses = unguarded_losses(refused, comparison)
    assert ("recall", "verified_accuracy") not in [(row.task, row.metric) for row in losses]


def test_a_difference_that_does_not_stand_with_p_adjusted_is_shown_and_marked():
    raw = _comparison(plain)
    for row in raw["rows"]:
        if (row["task"], row["model"], row["metric"]) == ("recall", "ppo", "verified_accuracy"):
            row["p_adjusted"] = 0.2
    said = said_of(raw)
    (line,) = (line for line in said.splitlines() if line.startswith("recall 0.97"))
    assert line.endswith("0.70 -0.27*")
    assert "*: not after correction for all tests" in said


def test_a_task_is_told_by_its_verified_accuracy():
    found = board(shown(_comparison(plain), "compare"))
    assert [(task.task, task.metric) for task in found.tasks] == [
        ("arithmetic", "verified_accuracy"),
        ("recall", "verified_accuracy"),
    ]
    assert [task.task for task in found.texts] == ["stories.txt"]
