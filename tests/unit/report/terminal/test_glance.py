"""The screen that a run ends with: few rows, the mean over tasks, words that agree with figures."""

import math
import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from eval.statistics.estimate import Estimate
from eval.statistics.task_mean import mean_over_tasks
from pipeline.report.board import board, rests_on, unguarded_losses
from pipeline.report.html.read import comparison_of
from pipeline.report.terminal.comparison import print_glance
from tests.report_runs import _comparison, plain


def said_of(raw, width=100):
    written = StringIO()
    print_glance("compare", raw, Console(file=written, width=width, color_system=None))
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


def test_a_screen_is_enough_for_four_models_and_eight_tasks():
    raw = _comparison(plain)
    first = [row for row in raw["rows"] if row["task"] == "recall" and row["metric"][0] == "v"]
    rows = [row | {"task": f"task{number}"} for number in range(8) for row in first]
    rows += [row | {"model": "fourth"} for row in rows if row["model"] == "ppo"]
    raw |= {"rows": rows, "models": [*raw["models"], "fourth"], "gate": None}
    lines = said_of(raw, width=100).splitlines()
    assert len(lines) < 24
    assert sum(line.startswith("task") for line in lines) == 9


def test_ship_says_which_conditions_it_rests_on_and_which_losses_it_passes_over():
    raw = _comparison(plain)
    for row in raw["rows"]:
        if (row["task"], row["model"]) == ("stories.txt", "tuned"):
            row |= {"delta": 0.12, "delta_low": 0.1, "delta_high": 0.14}
    comparison = comparison_of(raw, "compare")
    verdict = comparison.gate.verdicts[0]
    assert verdict.ships
    assert rests_on(verdict) == "recall: difference at least \N{MINUS SIGN}0.1"
    assert [row.task for row in unguarded_losses(verdict, comparison)] == ["stories.txt"]
    said = re.sub(r"\s+", " ", said_of(raw))
    passed_over = "losses that no condition looks at: stories.txt (bits per byte)"
    assert (
        f"SHIP rests on recall: difference at least -0.1 tuned SHIP: {passed_over} +0.120" in said
    )
    assert f"ppo DO NOT SHIP: fails recall (-0.320); {passed_over} +0.150" in said


def test_a_loss_that_a_condition_looks_at_is_not_told_as_passed_over():
    comparison = comparison_of(_comparison(plain), "compare")
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
    assert "*: not any more when p is adjusted" in said


def test_a_task_is_told_by_its_verified_accuracy():
    found = board(comparison_of(_comparison(plain), "compare"))
    assert [(task.task, task.metric) for task in found.tasks] == [
        ("arithmetic", "verified_accuracy"),
        ("recall", "verified_accuracy"),
    ]
    assert [task.task for task in found.texts] == ["stories.txt"]
