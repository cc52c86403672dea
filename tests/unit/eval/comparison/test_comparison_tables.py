"""The tables beside the rows: samples, flips, styles, groups, calibration, divergence, notes."""

import json
from dataclasses import replace
from math import comb

import pytest
from scipy import stats

from eval.comparison.comparison import compare_results
from eval.comparison.divergence_table import pool_divergence
from eval.comparison.paired_results import pair_results
from eval.comparison.score_rows import compare_scores
from eval.results import ItemResult
from eval.statistics.intervals import clustered_interval, mean_interval, paired_difference

RIGHT, WRONG = 1.0, 0.0


def results(scores, *, style="zero-shot", shots=0, metric="verified_accuracy", task="sums", **more):
    """Return one result a score, of items in their order; `more` may hold a list, one a score."""

    def of(index):
        return {k: v[index] if isinstance(v, list) else v for k, v in more.items()}

    return [
        ItemResult(
            **{
                "task": task,
                "item": f"item {index}",
                "metric": metric,
                "style": style,
                "shots": shots,
                "form": "chat",
                "prompt": f"{style} {index}?",
                "gold": str(index),
                "response": f"says {score}",
                "score": score,
                **of(index),
            }
        )
        for index, score in enumerate(scores)
    ]


def sampled(scores_by_item, **more):
    """Return results of several samples: one list of scores an item."""
    return [
        replace(result, sample=sample)
        for sample in range(len(scores_by_item[0]))
        for result in results([scores[sample] for scores in scores_by_item], **more)
    ]


SAMPLES = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0.5, 0, 1, 0], [1, 0, None, 1]]
SAMPLES = [[None if s is None else float(s) for s in scores] for scores in SAMPLES]


def row_of(rows, metric, model="sft"):
    (row,) = [row for row in rows if (row.metric, row.model) == (metric, model)]
    return row


def test_an_item_is_the_mean_of_its_samples_and_the_interval_is_over_items():
    base = sampled([[0.0, 1.0]] * 5)
    rows = compare_scores({"base": base, "sft": sampled(SAMPLES)}, "base")
    row = row_of(rows, "verified_accuracy")
    by_item = [0.5, 0.0, 1.0, 0.375, 2 / 3]
    assert (row.n, row.samples, row.ungraded) == (5, 4, 0)
    assert row.score == pytest.approx(sum(by_item) / 5)
    interval = mean_interval(by_item)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    delta, expected = paired_difference(by_item, [0.5] * 5)
    assert (row.delta, row.delta_low) == pytest.approx((delta, expected.low))
    assert (row.p, row.p_adjusted) == (None, None)
    assert (row.gained, row.lost) == (2, 0)  # above a half: the third and the fifth


def test_pass_at_k_is_the_share_of_draws_of_k_samples_with_a_right_one():
    rows = compare_scores({"sft": sampled(SAMPLES)}, "sft", pass_at=[3])
    assert [row.metric for row in rows] == ["verified_accuracy", "pass@2", "pass@3", "pass@4"]
    for k in (2, 3, 4):
        shares = []
        for scores in SAMPLES:
            graded = [score for score in scores if score is not None]
            if len(graded) >= k:
                wrong = sum(score != 1.0 for score in graded)
                shares.append(1 - comb(wrong, k) / comb(len(graded), k))
        row = row_of(rows, f"pass@{k}")
        assert row.score == pytest.approx(sum(shares) / len(shares))
        assert (row.n, row.ungraded) == (len(shares), 5 - len(shares))
    with pytest.raises(ValueError, match="pass@8 takes at least 8 samples of an item; there are 4"):
        compare_scores({"sft": sampled(SAMPLES)}, "sft", pass_at=[8])


def test_candidates_are_paired_with_the_baseline_in_pass_at_k_too():
    base = sampled([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    sft = sampled([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    row = row_of(compare_scores({"base": base, "sft": sft}, "base"), "pass@2")
    assert (row.score, row.delta) == (1.0, pytest.approx(1 / 3))


def test_p_is_mcnemars_and_adjusted_for_all_of_the_comparison():
    base = results([WRONG] * 8 + [RIGHT] * 8) + results([WRONG] * 16, task="other")
    first = results([RIGHT] * 15 + [WRONG]) + results([WRONG] * 15 + [RIGHT], task="other")
    second = results([WRONG] * 8 + [RIGHT] * 8) + results([0.5] * 16, task="other")
    rows = compare_scores({"base": base, "a": first, "b": second}, "base")
    tested = [row for row in rows if row.p is not None]
    assert [(row.task, row.model) for row in tested] == [
        ("sums", "a"),
        ("sums", "b"),
        ("other", "a"),
    ]
    expected = [stats.binomtest(gains, n).pvalue for gains, n in ((8, 9), (1, 1))]
    assert [row.p for row in tested] == pytest.approx([expected[0], 1.0, expected[1]])
    assert tested[0].p_adjusted == pytest.approx(3 * expected[0])
    assert (tested[1].p_adjusted, tested[2].p_adjusted) == (1.0, 1.0)
    assert (tested[0].gained, tested[0].lost) == (8, 1)


def test_flips_are_counted_both_ways_and_shown_with_both_answers():
    base = results([WRONG] * 8 + [RIGHT, None])
    base += results([RIGHT] * 4 + [WRONG] * 6, style="few-shot", shots=3)
    sft = results([WRONG] * 2 + [RIGHT] * 8, response="better")
    (flip,) = compare_results({"base": base, "sft": sft}, "base").flips
    assert (flip.model, flip.gained, flip.lost) == ("sft", 6, 2)
    assert [example.item for example in flip.gained_examples] == [f"item {i}" for i in range(4, 9)]
    first = flip.lost_examples[0]
    assert (first.item, first.gold, first.candidate) == ("item 0", "0", "better")
    assert (first.prompt, first.baseline_prompt) == ("zero-shot 0?", "few-shot 0?")
    assert first.baseline == "says 1.0"


def test_what_is_no_share_of_right_answers_does_not_flip():
    texts = {"metric": "bits_per_byte", "style": "none", "lower_is_better": True}
    found = compare_results(
        {"base": results([2.0, 0.9], **texts), "sft": results([0.9, 0.4], **texts)}, "base"
    )
    assert found.flips == ()
    assert {(row.gained, row.lost) for row in found.rows} == {(None, None)}


def test_each_style_unlocks_what_it_gains_over_zero_shot():
    base = results([WRONG] * 10)
    base += results([WRONG] * 7 + [RIGHT] * 3, style="few-shot", shots=1)
    base += results([WRONG] * 4 + [RIGHT] * 6, style="few-shot", shots=5)
    base += results([RIGHT] * 10, style="chain-of-thought", shots=1)
    sft = results([RIGHT] * 9 + [WRONG]) + results([RIGHT] * 10, style="chain-of-thought")
    table = compare_results({"base": base, "sft": sft}, "base").styles
    assert [(column.style, column.shots) for column in table.columns] == [
        ("zero-shot", 0),
        ("few-shot", 1),
        ("few-shot", 5),
        ("chain-of-thought", None),
    ]
    first, second = table.rows
    assert [cell.score for cell in first.cells] == [0.0, 0.3, 0.6, 1.0]
    assert [cell.gain for cell in first.cells] == [None, 0.3, 0.6, 1.0]
    _, interval = paired_difference([WRONG] * 4 + [RIGHT] * 6, [WRONG] * 10)
    assert first.cells[2].gain_low == interval.low
    assert [cell and (cell.shots, cell.score) for cell in second.cells] == [
        (0, 0.9),
        None,
        None,
        (0, 1.0),
    ]
    assert compare_results({"sft": results([RIGHT])}, "sft").styles.rows == ()


def test_groups_that_are_numbers_come_first_in_their_order():
    groups = ["10", "9", "far", "10", "9", "far"]
    found = compare_results({"sft": results([1.0, 0.0, 1.0, 0.0, 0.0, None], group=groups)}, "sft")
    assert [(row.group, row.n, row.score) for row in found.groups] == [
        ("9", 2, 0.0),
        ("10", 2, 0.5),
        ("far", 1, 1.0),
    ]
    one = compare_results({"sft": results([1.0, 0.0], group="add")}, "sft")
    assert one.groups == ()


def test_the_calibration_error_is_the_mean_distance_of_the_bins():
    choices = [(0.95, 1.0), (0.91, 0.0), (0.55, 1.0), (1.0, 1.0)]
    scores = [score for _, score in choices]
    confidence = [confidence for confidence, _ in choices]
    items = results(scores, metric="choice_accuracy", confidence=confidence)
    (found,) = compare_results({"sft": items}, "sft").calibration
    assert [(b.low, b.high, b.n) for b in found.bins] == [(0.5, 0.6, 1), (0.9, 1.0, 3)]
    assert found.error == pytest.approx(0.25 * 0.45 + 0.75 * abs(2 / 3 - 2.86 / 3))
    assert (found.accuracy, found.n) == (0.75, 4)
    assert compare_results({"sft": results(scores)}, "sft").calibration == ()


def test_divergence_is_the_mean_over_items_of_what_their_samples_carry():
    ratios = [[1.0, 3.0], [2.0, None], [None, None], [0.0, 1.0]]
    items = [
        replace(result, log_ratio=ratios[i % 4][i // 4], num_tokens=7)
        for i, result in enumerate(sampled([[1.0, 0.0]] * 4))
    ]
    both = {"sft": results([1.0] * 4), "dpo": items}
    (row,) = compare_results(both, "sft", trained_from={"dpo": "sft", "sft": None}).divergence
    assert (row.model, row.trained_from, row.n, row.tokens) == ("dpo", "sft", 5, 7)
    by_item = [2.0, 2.0, 0.5]
    assert row.kl == pytest.approx(1.5)
    assert row.low == pytest.approx(mean_interval(by_item).low)
    assert compare_results(both, "sft").divergence == ()


def test_divergence_tells_how_good_the_answers_are_by_their_gold_scores():
    items = results([1.0] * 4, log_ratio=0.5, gold_score=1.0)
    items[0] = replace(items[0], gold_score=0.0, log_ratio=None)  # counts for gold alone
    (row,) = compare_results({"dpo": items}, "dpo", trained_from={"dpo": "sft"}).divergence
    assert (row.n, row.gold, row.kl) == (3, 0.75, 0.5)
    assert row.gold_low < 0.75 < row.gold_high
    bare = [replace(item, gold_score=None) for item in items]
    (row,) = compare_results({"dpo": bare}, "dpo", trained_from={"dpo": "sft"}).divergence
    assert row.gold_score is None


def test_divergence_of_several_seeds_is_the_mean_with_an_interval_over_items():
    def rows(kl, golds):
        items = [
            replace(item, gold_score=gold)
            for item, gold in zip(results([1.0] * 4, log_ratio=kl), golds, strict=True)
        ]
        return pair_results({"sft": results([1.0] * 4), "dpo": items}, "sft")

    golds = ([0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0])
    seeds = [rows(kl, found) for kl, found in zip((1.0, 3.0), golds, strict=True)]
    (row,) = pool_divergence(seeds, {"dpo": "sft", "sft": None})
    assert (row.kl, row.kl_by_seed, row.n) == (2.0, (1.0, 3.0), 8)
    assert (row.gold, row.gold_by_seed) == (0.625, (0.75, 0.5))
    weights = [[1.0] * 4] * 2
    assert row.gold_low == clustered_interval(golds, weights).low
    assert row.gold_score.by_seed == (0.75, 0.5)


def test_a_sentence_says_how_many_differences_chance_alone_would_show():
    base = results([WRONG, RIGHT] * 5, gold_score=0.0)
    models = {name: results([RIGHT] * 10, gold_score=1.0) for name in "abcd"}
    (note, other) = compare_results({"base": base, **models}, "base", notes=["Mind."] * 2).notes
    assert note.startswith(
        "4 differences and 4 win rates are shown: if no model differed from `base`, about 0.4 of"
    )
    assert other == "Mind."
    assert compare_results({"base": base}, "base").notes == ()


def test_a_win_rate_of_a_chain_of_thought_is_over_the_baselines_whatever_its_shots():
    base = results([RIGHT] * 3, style="chain-of-thought", shots=3, gold_score=0.0)
    sft = results([RIGHT] * 3, style="chain-of-thought", shots=0, gold_score=1.0)
    rows = compare_scores({"base": base, "sft": sft}, "base")
    row = row_of(rows, "win_rate")
    assert (row.score, row.against, row.against_shots) == (1.0, "chain-of-thought", 3)


def test_metrics_of_another_harness_are_rows_like_ours():
    base = results([3.0, 4.0], metric="word_perplexity", lower_is_better=True)
    sft = results([2.0, 2.5], metric="word_perplexity", lower_is_better=True)
    (before, after) = compare_scores({"base": base, "sft": sft}, "base")
    assert (before.metric, before.lower_is_better, after.delta) == ("word_perplexity", True, -1.25)


def test_tokens_are_of_what_was_written():
    written = results([1.0, 0.0, 1.0], num_tokens=[4, 8, 0])
    choices = results([1.0], metric="choice_accuracy", num_tokens=3)
    by_metric = {
        row.metric: row.tokens for row in compare_scores({"sft": written + choices}, "sft")
    }
    assert by_metric == {"verified_accuracy": 6.0, "choice_accuracy": None}


def test_a_comparison_goes_through_json():
    base = sampled([[1.0, 0.0]] * 3, gold_score=0.5, group=["1", "2", "3"])
    text = json.dumps(
        compare_results({"base": base, "sft": base}, "base").to_json(), allow_nan=False
    )
    assert set(json.loads(text)) == {
        *("baseline", "models", "rows", "styles", "groups", "flips", "calibration"),
        *("divergence", "written", "notes", "gate"),
    }
