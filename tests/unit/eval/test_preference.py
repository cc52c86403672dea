"""How often a response is preferred to the baseline's."""

import random

import pytest

from eval.compare import compare
from eval.preference import preferred, win_rate_interval
from eval.run import ItemResult
from eval.statistics import mean_interval, wilson


def written(gold_scores, *, style="zero-shot", metric="verified_accuracy", task="sums"):
    return [
        ItemResult(
            task=task,
            item=f"item {index}",
            metric=metric,
            style=style,
            form="chat",
            prompt="",
            gold="",
            score=0.0,
            gold_score=gold_score,
        )
        for index, gold_score in enumerate(gold_scores)
    ]


def win_rates(results, baseline="base"):
    return [row for row in compare(results, baseline) if row.metric == "win_rate"]


def test_a_win_rate_counts_wins_and_half_of_the_ties():
    generator = random.Random(0)
    ours, theirs = ([generator.choice([0.0, 0.5, 1.5]) for _ in range(40)] for _ in range(2))
    points = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if mine > other:
            points += 1
        elif mine == other:
            points += 0.5
    (row,) = win_rates({"base": written(theirs), "dpo": written(ours)})
    assert row.score == pytest.approx(points / 40)
    assert (row.model, row.n, row.ungraded, row.delta) == ("dpo", 40, 0, None)
    assert (row.style, row.against) == ("zero-shot", "zero-shot")
    assert row.low < row.score < row.high
    (mirrored,) = win_rates({"base": written(ours), "dpo": written(theirs)})
    assert mirrored.score == pytest.approx(1 - row.score)


def test_responses_are_compared_in_the_same_style_although_another_is_the_baselines_best():
    good, bad = [1.5] * 4, [0.0] * 4
    few = {"style": "few-shot"}
    rows = win_rates(
        {
            "base": written(bad) + written(good, **few),
            "sft": written([0.5] * 4) + written([0.5] * 4, **few),
            "dpo": written([1.0] * 4),
        }
    )
    assert [(row.model, row.style, row.score) for row in rows] == [
        ("sft", "zero-shot", 1.0),
        ("sft", "few-shot", 0.0),
        ("dpo", "zero-shot", 1.0),
    ]
    assert win_rates({"base": written(bad), "dpo": written(good, **few)}) == []


def test_items_without_a_gold_score_on_either_side_are_left_out_and_counted():
    base, dpo = written([1.0, None, 0.0, 0.0]), written([1.5, 1.5, None, 0.0])
    (row,) = win_rates({"base": base, "dpo": dpo})
    assert (row.n, row.ungraded, row.score) == (2, 2, 0.75)
    assert preferred({"a": dpo[0]}, {}) == {}


def test_results_of_versions_without_gold_scores_and_choices_have_no_win_rate():
    old = written([None, None])
    assert win_rates({"base": old, "dpo": old}) == []
    assert win_rates({"base": written([1.0, 0.0]), "dpo": old}) == []
    choices = written([1.0, 0.0], metric="choice_accuracy")
    assert win_rates({"base": choices, "dpo": choices}) == []


def test_win_rates_follow_a_tasks_other_rows():
    def both(task):
        choices = written([1.0], metric="choice_accuracy", task=task)
        return written([1.0], task=task) + choices

    results = both("b") + both("a")
    rows = compare({"base": results, "dpo": results}, "base")
    assert [(row.task, row.metric, row.model) for row in rows] == [
        (task, metric, model)
        for task in "ba"
        for metric, models in [
            ("verified_accuracy", ["base", "dpo"]),
            ("choice_accuracy", ["base", "dpo"]),
            ("win_rate", ["dpo"]),
        ]
        for model in models
    ]


def test_models_that_never_differ_have_a_row_that_claims_no_certainty():
    same = written([0.5] * 30)
    (row,) = win_rates({"base": same, "dpo": same})
    reach = wilson(0, 30).high / 2
    assert (row.score, row.low, row.high) == (0.5, 0.5 - reach, 0.5 + reach)


def test_the_interval_of_a_win_rate_is_wilsons_without_ties_and_else_a_bootstrap():
    assert win_rate_interval([1.0] * 9 + [0.0]) == wilson(9, 10)
    with_ties = [1.0] * 5 + [0.5] * 4 + [0.0]
    assert win_rate_interval(with_ties) == mean_interval(with_ties)
    assert win_rate_interval([0.5]) is not None
    assert win_rate_interval([]) is None
