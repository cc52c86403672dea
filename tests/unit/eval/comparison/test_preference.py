"""How often a response is preferred to the baseline's."""

import random
from dataclasses import replace

import pytest

from eval.comparison.pool import pool
from eval.comparison.preference import find_preferences
from eval.comparison.score_rows import compare_scores
from eval.results import ItemResult
from eval.statistics.intervals import wilson
from eval.statistics.win_rate import equal_length_win_rate


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
    return [row for row in compare_scores(results, baseline) if row.metric == "win_rate"]


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
    assert find_preferences({"a": dpo[:1]}, {}) == []


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
    rows = compare_scores({"base": results, "dpo": results}, "base")
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
    assert (row.score, row.low, row.high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))


def test_the_rate_at_equal_length_is_what_the_regression_says_of_equal_lengths():
    generator = random.Random(1)
    ours, theirs = ([generator.choice([0.0, 0.5, 1.5]) for _ in range(60)] for _ in range(2))
    texts = [["x" * generator.randrange(40) for _ in range(60)] for _ in range(2)]
    base, dpo = (
        [replace(r, response=text) for r, text in zip(written(gold), said, strict=True)]
        for gold, said in ((theirs, texts[0]), (ours, texts[1]))
    )
    rows = compare_scores({"base": base, "dpo": dpo}, "base")
    assert [row.metric for row in rows][-2:] == ["win_rate", "win_rate_equal_length"]
    outcomes = [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in zip(ours, theirs, strict=True)]
    lengths = [len(b) - len(a) for a, b in zip(*texts, strict=True)]
    rate, interval = equal_length_win_rate(outcomes, lengths)
    assert (rows[-1].score, rows[-1].low) == pytest.approx((rate, interval.low))
    assert (rows[-1].n, rows[-1].delta) == (60, None)
    assert "win_rate_equal_length" not in {
        row.metric for row in pool([{"base": base, "dpo": dpo}], "base")
    }


def test_lengths_are_controlled_for_only_where_either_response_can_be_the_longer():
    def rows(gold, lengths):
        base = [replace(result, response="x" * 20) for result in written([0.5] * len(gold))]
        texts = ["x" * (20 + length) for length in lengths]
        dpo = [replace(r, response=text) for r, text in zip(written(gold), texts, strict=True)]
        return [row.metric for row in compare_scores({"base": base, "dpo": dpo}, "base")][2:]

    gold = [1.0, 0.0, 0.5, 1.0, 0.0, 1.0] * 5
    both_ways = [3, -2, 1, -4, 5, 2] * 5
    assert rows(gold, both_ways) == ["win_rate", "win_rate_equal_length"]
    assert rows(gold, [abs(length) for length in both_ways]) == ["win_rate"]
    assert rows([0.5] * 30, both_ways) == ["win_rate"]
    assert rows([max(score, 0.5) for score in gold], both_ways) == ["win_rate"]


def test_samples_are_paired_in_their_order_and_an_item_is_one_outcome():
    ours = written([1.0, 0.0, 1.0, 1.0]) + samples([0.0, 1.0, None, 1.0])
    theirs = written([0.0, 1.0, 1.0, 0.5]) + samples([1.0, 0.0, 0.0, 0.0])
    (row,) = win_rates({"base": theirs, "dpo": ours})
    assert (row.n, row.samples) == (4, 2)
    # Won and lost; lost and won; a tie beside one that is not graded; won twice.
    assert row.score == pytest.approx((0.5 + 0.5 + 0.5 + 1.0) / 4)


def samples(gold_scores):
    return [replace(result, sample=1) for result in written(gold_scores)]
