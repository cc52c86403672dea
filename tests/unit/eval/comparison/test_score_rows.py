"""The table of models against their baseline."""

import json
from dataclasses import asdict

import pytest

from eval.comparison.score_rows import compare_scores, pick_best_rows
from eval.results import ItemResult
from eval.statistics.intervals import blaker, mean_interval, paired_difference


def results(scores, *, style="zero-shot", task="sums", metric="verified_accuracy", weights=None):
    return [
        ItemResult(
            task=task,
            item=f"item {index}",
            metric=metric,
            style=style,
            form="document",
            prompt="",
            gold="",
            score=score,
            weight=weights[index] if weights else 1.0,
            lower_is_better=metric == "bits_per_byte",
        )
        for index, score in enumerate(scores)
    ]


ZEROS_ONES = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]


def test_a_candidate_is_measured_against_the_baselines_best_style():
    base_zero, base_few = [0.0] * 6, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    rows = compare_scores(
        {
            "base": results(base_zero) + results(base_few, style="few-shot"),
            "sft": results(ZEROS_ONES) + results(base_zero, style="few-shot"),
        },
        "base",
    )
    assert [(row.model, row.style, row.against) for row in rows] == [
        ("base", "zero-shot", None),
        ("base", "few-shot", None),
        ("sft", "zero-shot", "few-shot"),
        ("sft", "few-shot", "few-shot"),
    ]
    base, better = rows[1], rows[2]
    assert (base.delta, base.delta_low, base.delta_high) == (None, None, None)
    interval = blaker(4, 6)
    assert (better.score, better.low, better.high) == (4 / 6, interval.low, interval.high)
    delta, expected = paired_difference(ZEROS_ONES, base_few)
    assert (better.delta, better.delta_low, better.delta_high) == (
        delta,
        expected.low,
        expected.high,
    )
    assert rows[3].delta == pytest.approx(-2 / 6)


def test_fewer_bits_per_byte_are_better_and_documents_weigh_by_their_bytes():
    weights = [10.0, 30.0, 60.0]
    texts = {"metric": "bits_per_byte", "weights": weights, "task": "shakespeare"}
    worse, better, candidate = [3.0, 3.0, 3.0], [2.0, 2.5, 2.0], [1.0, 2.0, 2.0]
    rows = compare_scores(
        {
            "base": results(worse, style="zero-shot", **texts)
            + results(better, style="few-shot", **texts),
            "more": results(candidate, style="zero-shot", **texts),
        },
        "base",
    )
    row = rows[-1]
    assert row.against == "few-shot"
    assert row.score == pytest.approx(1.9)
    assert row.delta == pytest.approx(1.9 - 2.15)
    interval = mean_interval(candidate, weights)
    assert (row.low, row.high) == (interval.low, interval.high)
    assert [row.style for row in pick_best_rows(rows)] == ["few-shot", "zero-shot"]


def test_an_item_ungraded_in_either_model_leaves_the_pair_and_is_counted():
    rows = compare_scores(
        {
            "base": results([1.0, None, 0.0, 0.0, 1.0]),
            "sft": results([1.0, 1.0, None, 1.0, 1.0]),
        },
        "base",
    )
    base, sft = rows
    assert (base.n, base.ungraded, base.score) == (4, 1, 0.5)
    assert (sft.n, sft.ungraded, sft.score) == (4, 2, 1.0)
    assert sft.delta == pytest.approx(1 - 2 / 3)


def test_a_model_with_nothing_graded_has_a_row_without_figures():
    rows = compare_scores({"base": results([None, None]), "sft": results([1.0, 0.0])}, "base")
    base, sft = rows
    assert (base.n, base.score, base.low, base.high) == (0, None, None, None)
    assert (sft.score, sft.delta, sft.against, sft.ungraded) == (0.5, None, "zero-shot", 2)


def test_items_are_paired_by_id_in_any_order():
    base = results([1.0, 0.0, 0.0, 1.0, 0.0])
    sft = results([1.0, 1.0, 0.0, 1.0, 1.0])
    assert compare_scores({"base": base, "sft": sft[::-1]}, "base") == compare_scores(
        {"base": base, "sft": sft}, "base"
    )


def test_models_asked_different_things_are_not_compared():
    base = results([1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"not asked the same items of `sums`.*only one has `item 2`"
    ):
        compare_scores({"base": base, "sft": results([1.0, 0.0, 1.0])}, "base")
    with pytest.raises(ValueError, match="`sft` has no verified_accuracy of `sums`"):
        compare_scores({"base": base, "sft": results([1.0, 0.0], task="other")}, "base")
    with pytest.raises(ValueError, match="`base` has no verified_accuracy of `other`"):
        compare_scores({"base": base, "sft": base + results([1.0], task="other")}, "base")
    with pytest.raises(ValueError, match="two results for item `item 0`"):
        compare_scores({"base": base + base}, "base")
    with pytest.raises(ValueError, match="no results of the baseline `base`"):
        compare_scores({"sft": base}, "base")


def test_rows_come_by_task_metric_and_model_and_go_through_json():
    both = results(ZEROS_ONES, task="b") + results(ZEROS_ONES, task="a", style="few-shot")
    rows = compare_scores({"x": both, "base": both, "c": both}, "base")
    assert [(row.task, row.model) for row in rows] == [
        (task, model) for task in "ba" for model in ("x", "base", "c")
    ]
    assert json.loads(json.dumps([asdict(row) for row in rows], allow_nan=False))[0]["task"] == "b"


def test_each_models_best_style_is_chosen_and_a_tie_goes_to_zero_shot():
    few = {"style": "few-shot"}
    rows = compare_scores(
        {
            "base": results([1.0, 0.0]) + results([0.0, 1.0], **few),
            "sft": results([None, None]) + results([0.0, 0.0], **few),
        },
        "base",
    )
    assert [(row.model, row.style) for row in pick_best_rows(rows)] == [
        ("base", "zero-shot"),
        ("sft", "few-shot"),
    ]
    assert {row.against for row in rows if row.model == "sft"} == {"zero-shot"}
