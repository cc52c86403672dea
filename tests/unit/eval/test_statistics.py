"""Intervals and tests against SciPy, and their coverage in simulated experiments."""

import math

import numpy as np
import pytest
from scipy import stats

from eval.statistics import (
    Interval,
    clustered_interval,
    mcnemar_exact,
    mean,
    mean_interval,
    paired_difference,
    student_interval,
    wilson,
)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (5, 999)])
def test_wilson_is_scipys(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = wilson(successes, n, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_says_nothing_of_nothing_and_refuses_impossible_counts():
    assert wilson(0, 0) == Interval(0, 1)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def test_zero_and_one_scores_get_wilsons_interval_and_others_a_bootstrap():
    assert mean_interval([1.0, 0.0, 1.0, 1.0]) == wilson(3, 4)
    assert mean_interval([1.0, 0.0, 1.0, 0.5]) != wilson(3, 4)


@pytest.mark.parametrize("n", [8, 30, 400])
def test_the_bootstrap_of_normal_scores_is_about_as_wide_as_students_t(n):
    scores = np.random.default_rng(n).normal(5, 2, n)
    found = mean_interval(scores.tolist())
    expected = stats.t.interval(0.95, n - 1, scores.mean(), stats.sem(scores))
    assert found is not None
    assert found.high - found.low == pytest.approx(expected[1] - expected[0], rel=0.08)


def test_the_bootstrap_of_a_ratio_is_scipys():
    generator = np.random.default_rng(0)
    weights = generator.integers(50, 2000, 300).astype(float)
    scores = generator.normal(2.0, 0.3, 300) + 200 / weights
    expected = stats.bootstrap(
        (scores * weights, weights),
        lambda bits, size, axis: bits.sum(axis) / size.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=1,
    ).confidence_interval
    found = mean_interval(scores.tolist(), weights.tolist())
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.002)
    assert found.low < mean(scores.tolist(), weights.tolist()) < found.high


def test_intervals_of_too_little_are_none_and_none_of_them_is_nan():
    assert mean_interval([]) is None
    assert mean_interval([0.4]) is None
    assert mean_interval([1.0]) == wilson(1, 1)
    equal = mean_interval([0.5] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert equal is not None
    assert (equal.low, equal.high) == pytest.approx((0.5, 0.5))
    assert paired_difference([0.4], [0.1]) == (pytest.approx(0.3), None)
    two = mean_interval([0.2, 0.6])
    assert two is not None
    assert (two.low, two.high) == pytest.approx((0.2, 0.6))


def test_intervals_are_the_same_every_time_and_their_seed_matters():
    scores = np.random.default_rng(0).random(50).tolist()
    assert mean_interval(scores) == mean_interval(scores)
    assert mean_interval(scores, seed=1) != mean_interval(scores)


def test_pairing_takes_out_what_makes_an_item_hard_for_both_models():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 1, 200)
    a = (difficulty + 0.1 + generator.normal(0, 0.1, 200)).tolist()
    b = (difficulty + generator.normal(0, 0.1, 200)).tolist()
    delta, interval = paired_difference(a, b)
    assert interval is not None
    differences = np.subtract(a, b)
    expected = stats.t.interval(0.95, 199, differences.mean(), stats.sem(differences))
    assert delta == pytest.approx(differences.mean())
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.003)
    backwards, mirrored = paired_difference(b, a)
    assert mirrored is not None
    assert backwards == pytest.approx(-delta)
    assert (-mirrored.high, -mirrored.low) == pytest.approx(expected, abs=0.003)


def test_a_weighted_difference_is_the_difference_of_the_ratios():
    a, b, weights = [1.0, 2.0, 4.0], [2.0, 2.5, 3.0], [10.0, 20.0, 70.0]
    delta, interval = paired_difference(a, b, weights)
    assert delta == pytest.approx(mean(a, weights) - mean(b, weights))
    assert interval is not None
    assert interval.low <= delta <= interval.high


def test_models_that_never_differ_are_not_called_certainly_equal():
    delta, interval = paired_difference([1.0] * 20, [1.0] * 20)
    assert delta == 0
    assert interval is not None
    expected = stats.binomtest(0, 20).proportion_ci(0.95, method="wilson").high
    assert (interval.low, interval.high) == pytest.approx((-expected, expected))


def test_scores_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        paired_difference([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no pair of scores"):
        paired_difference([], [])


@pytest.mark.parametrize(
    ("only_a", "only_b", "both"), [(0, 0, 5), (4, 0, 3), (7, 2, 0), (30, 31, 9)]
)
def test_mcnemar_is_the_binomial_test_of_the_items_that_differ(only_a, only_b, both):
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both
    num_differing = only_a + only_b
    expected = stats.binomtest(only_a, num_differing).pvalue if num_differing else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-12)
    assert mcnemar_exact(b, a) == mcnemar_exact(a, b)


def test_mcnemar_refuses_partial_credit():
    with pytest.raises(ValueError, match="0 and 1 only"):
        mcnemar_exact([0.5, 1.0], [0.0, 1.0])


def test_95_percent_intervals_hold_the_truth_in_about_95_percent_of_experiments():
    generator = np.random.default_rng(7)
    num_experiments, n = 300, 40
    held = {"mean": 0, "difference": 0, "binary difference": 0}
    for _ in range(num_experiments):
        skewed = generator.exponential(1.0, n)
        interval = mean_interval(skewed.tolist())
        held["mean"] += interval.low <= 1.0 <= interval.high
        better = skewed + generator.normal(0.2, 0.5, n)
        _, interval = paired_difference(better.tolist(), skewed.tolist())
        held["difference"] += interval.low <= 0.2 <= interval.high
        luck = generator.random(n)
        a, b = (luck < 0.7).astype(float), (luck + generator.normal(0, 0.2, n) < 0.7).astype(float)
        truth = 0.7 - _share_below(0.7)
        _, interval = paired_difference(a.tolist(), b.tolist())
        held["binary difference"] += interval.low <= truth <= interval.high
    for what, count in held.items():
        assert 0.89 <= count / num_experiments <= 0.995, (what, count)


def _share_below(limit: float) -> float:
    """P(U + N < limit) for U uniform on 0..1 and N normal with standard deviation 0.2."""
    shifted = [(limit - u / 1000) / 0.2 for u in range(1001)]
    return math.fsum(stats.norm.cdf(shifted)) / 1001


def test_runs_over_the_same_items_are_as_sure_as_the_items_allow():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 1, 150)
    runs = difficulty + generator.normal(0, 0.5, (4, 150))
    found = clustered_interval(runs.tolist(), np.ones((4, 150)).tolist())
    assert found is not None
    of_items = runs.mean(axis=0)
    expected = stats.t.interval(0.95, 149, of_items.mean(), stats.sem(of_items))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
    pretended = stats.t.interval(0.95, 599, runs.mean(), stats.sem(runs.ravel()))
    assert found.high - found.low > 1.5 * (pretended[1] - pretended[0])


def test_one_run_is_the_bootstrap_of_its_scores():
    scores, weights = [0.1, 0.9, 0.4, 0.4], [1.0, 2.0, 3.0, 4.0]
    assert clustered_interval([scores], [weights]) == mean_interval(scores, weights)


def test_draws_in_which_a_run_has_no_score_are_left_out():
    found = clustered_interval([[1.0, 0.0], [0.5, 0.0]], [[1.0, 1.0], [1.0, 0.0]])
    assert found == Interval(pytest.approx(0.5), pytest.approx(0.75))


def test_runs_of_different_lengths_are_refused():
    for scores, weights in ([], []), ([[1.0], [1.0, 0.0]], [[1.0], [1.0]]):
        with pytest.raises(ValueError, match="a score and a weight for each item"):
            clustered_interval(scores, weights)


def test_students_interval_is_scipys_and_says_nothing_of_too_little():
    values = [0.6, 0.5, 0.8, 0.65]
    found = student_interval(values)
    assert found is not None
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert student_interval([0.1, 0.2]) is None
    assert student_interval([0.5] * 5) is None
