"""Intervals and tests against SciPy, statsmodels, published figures and their definitions."""

import math

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from eval.statistics.intervals import (
    Interval,
    blaker,
    clustered_interval,
    holm,
    mcnemar_exact,
    mean,
    mean_interval,
    paired_difference,
    student_interval,
    tango,
    wilson,
)


def ends(interval):
    assert interval is not None
    return interval.low, interval.high


def students(values, confidence=0.95):
    return stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (5, 999)])
def test_wilson_is_scipys_and_statsmodels(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = ends(wilson(successes, n, confidence))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    theirs = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert found == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("interval", [wilson, blaker])
def test_a_proportion_says_nothing_of_nothing_and_refuses_impossible_counts(interval):
    assert interval(0, 0) == Interval(0, 1)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        interval(3, 2)


def blakers_p_values(successes, n, shares):
    """Blaker's p-values with mid-P as they are defined, over all outcomes."""
    outcomes = np.arange(n + 1)[:, None]
    fewer, more = stats.binom.cdf(outcomes, n, shares), stats.binom.sf(outcomes - 1, n, shares)
    tails, chances = np.minimum(fewer, more), stats.binom.pmf(outcomes, n, shares)
    return np.where(tails < tails[successes], chances, 0).sum(axis=0) + chances[successes] / 2


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(1, 1), (2, 7), (3, 20), (17, 20), (59, 200)])
def test_blakers_limits_are_the_outermost_shares_that_are_not_rejected(successes, n, confidence):
    low, high = ends(blaker(successes, n, confidence))
    shares = np.linspace(0, 1, 1201)[1:-1]
    accepted = shares[blakers_p_values(successes, n, shares) >= 1 - confidence]
    assert low - 1e-9 <= accepted.min() < low + 0.004
    assert high - 0.004 < accepted.max() <= high + 1e-9
    just_inside = np.array([low + 1e-9])
    assert blakers_p_values(successes, n, just_inside) >= 1 - confidence - 1e-6
    mirrored = blaker(n - successes, n, confidence)
    assert (low, high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-12)
    assert blaker(0, n).low == 0
    assert blaker(n, n).high == 1


def test_tangos_interval_is_the_published_one_and_its_special_cases_are_wilsons():
    """Bentur et al.'s airway data in Fagerland, Lydersen and Laake 2014: [-0.517, -0.026]."""
    assert ends(tango(1, 7, 21)) == pytest.approx((-0.517, -0.026), abs=5e-4)
    untied = wilson(13, 20)
    assert ends(tango(13, 7, 20)) == pytest.approx((2 * untied.low - 1, 2 * untied.high - 1))
    assert ends(tango(0, 0, 20)) == pytest.approx((-wilson(0, 20).high, wilson(0, 20).high))
    assert ends(tango(20, 0, 20)) == pytest.approx((2 * wilson(20, 20).low - 1, 1))
    assert tango(0, 20, 20).low == -1
    with pytest.raises(ValueError, match="15 wins and 6 losses in 20"):
        tango(15, 6, 20)


@pytest.mark.parametrize(("wins", "losses", "n"), [(9, 3, 40), (0, 5, 30), (50, 60, 300)])
def test_at_tangos_limits_the_score_statistic_is_the_normal_quantile(wins, losses, n):
    for limit, sign in zip(ends(tango(wins, losses, n)), (1, -1), strict=True):

        def unlikeliness(losing, limit=limit):
            chances = [losing + limit, losing, 1 - 2 * losing - limit]
            return -float(np.dot([wins, losses, n - wins - losses], np.log(chances)))

        lowest, highest = max(0, -limit), (1 - limit) / 2
        fit = optimize.minimize_scalar(
            unlikeliness,
            bounds=(lowest + 1e-12, highest - 1e-12),
            method="bounded",
            options={"xatol": 1e-12},
        )
        error = math.sqrt((2 * fit.x + limit - limit**2) / n)
        assert ((wins - losses) / n - limit) / error == pytest.approx(1.959964 * sign, rel=1e-4)


def test_zero_and_one_scores_get_blakers_interval():
    assert mean_interval([1.0, 0.0, 1.0, 1.0]) == blaker(3, 4)
    assert mean_interval([1.0, 0.0, 1.0, 1.0], [2.0] * 4) == blaker(3, 4)
    assert mean_interval([1.0, 0.0, 1.0, 0.5]) != blaker(3, 4)


def test_partial_credit_gets_wilsons_form_for_its_effective_number_of_items():
    scores = np.random.default_rng(0).beta(0.5, 1.5, 40)
    effective = scores.mean() * (1 - scores.mean()) / stats.sem(scores) ** 2
    quantile = stats.t.ppf(0.975, 39)
    expected = proportion_confint(
        scores.mean() * effective, effective, alpha=2 * stats.norm.sf(quantile), method="wilson"
    )
    assert ends(mean_interval(scores.tolist())) == pytest.approx(expected)


def test_scores_without_bounds_get_students_interval():
    scores = np.random.default_rng(0).normal(5, 2, 30)
    assert ends(mean_interval(scores.tolist())) == pytest.approx(students(scores))
    wide = ends(mean_interval(scores.tolist(), confidence=0.99))
    assert wide == pytest.approx(students(scores, 0.99))


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
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=0.002)
    assert found.low < mean(scores.tolist(), weights.tolist()) < found.high
    assert mean_interval(scores.tolist(), weights.tolist()) == found
    assert mean_interval(scores.tolist(), weights.tolist(), seed=1) != found


def test_intervals_of_too_little_are_none_and_none_of_them_is_nan():
    assert mean_interval([]) is None
    assert mean_interval([0.4]) is None
    assert mean_interval([1.0]) == blaker(1, 1)
    assert mean_interval([7.0] * 6) is None
    assert paired_difference([0.4], [0.1]) == (pytest.approx(0.3), None)
    two = mean_interval([0.2, 0.6])
    assert 0 < two.low < 0.2 < 0.6 < two.high < 1


def test_equal_partial_scores_are_not_called_certain():
    """As many items as Wilson's limit for none in n may be otherwise, and lie at a bound."""
    share = wilson(0, 6).high
    assert ends(mean_interval([0.3] * 6)) == pytest.approx((0.3 - 0.3 * share, 0.3 + 0.7 * share))
    _, found = paired_difference([0.3] * 6, [0.3] * 6)
    assert ends(found) == pytest.approx((-share, share))


def test_pairing_takes_out_what_makes_an_item_hard_for_both_models():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 1, 200)
    a = (difficulty + 0.1 + generator.normal(0, 0.1, 200)).tolist()
    b = (difficulty + generator.normal(0, 0.1, 200)).tolist()
    expected = students(np.subtract(a, b))
    delta, interval = paired_difference(a, b)
    assert delta == pytest.approx(np.subtract(a, b).mean())
    assert ends(interval) == pytest.approx(expected)
    backwards, mirrored = paired_difference(b, a)
    assert backwards == pytest.approx(-delta)
    assert (-mirrored.high, -mirrored.low) == pytest.approx(expected)


def test_a_difference_of_right_and_wrong_is_tangos_of_the_items_that_differ():
    a, b = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert paired_difference(a, b) == (pytest.approx(2 / 6), tango(3, 1, 6))
    delta, interval = paired_difference([1.0] * 20, [1.0] * 20)
    assert delta == 0
    limit = stats.binomtest(0, 20).proportion_ci(0.95, method="wilson").high
    assert ends(interval) == pytest.approx((-limit, limit))


def test_a_weighted_difference_is_the_difference_of_the_ratios():
    a, b, weights = [1.0, 2.0, 4.0], [2.0, 2.5, 3.0], [10.0, 20.0, 70.0]
    delta, interval = paired_difference(a, b, weights)
    assert delta == pytest.approx(mean(a, weights) - mean(b, weights))
    assert interval.low <= delta <= interval.high


def test_scores_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        paired_difference([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no pair of scores"):
        paired_difference([], [])


@pytest.mark.parametrize(
    ("only_a", "only_b", "both"), [(0, 0, 5), (4, 0, 3), (7, 2, 0), (30, 31, 9)]
)
def test_mcnemar_is_statsmodels_and_the_binomial_test_of_the_items_that_differ(
    only_a, only_b, both
):
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both
    assert mcnemar_exact(b, a) == mcnemar_exact(a, b)
    if only_a + only_b == 0:
        assert mcnemar_exact(a, b) == 1
        return
    expected = stats.binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-12)
    theirs = mcnemar([[both, only_a], [only_b, 0]], exact=True).pvalue
    assert mcnemar_exact(a, b) == pytest.approx(theirs, abs=1e-12)


def test_mcnemar_refuses_partial_credit():
    with pytest.raises(ValueError, match="0 and 1 only"):
        mcnemar_exact([0.5, 1.0], [0.0, 1.0])


def test_holm_is_statsmodels():
    generator = np.random.default_rng(0)
    for count in (1, 2, 7, 30):
        p_values = (generator.random(count) ** 3).round(2).tolist()
        expected = multipletests(p_values, method="holm")[1]
        assert holm(p_values) == pytest.approx(expected)
    assert holm([]) == []


def test_runs_over_the_same_items_are_as_sure_as_the_items_allow():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 1, 150)
    runs = difficulty + generator.normal(0, 0.5, (4, 150))
    found = clustered_interval(runs.tolist(), np.ones((4, 150)).tolist())
    assert ends(found) == pytest.approx(students(runs.mean(axis=0)))
    pretended = stats.t.interval(0.95, 599, runs.mean(), stats.sem(runs.ravel()))
    assert found.high - found.low > 1.5 * (pretended[1] - pretended[0])


def test_several_right_or_wrong_answers_an_item_stay_within_bounds():
    scores = [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    found = clustered_interval(scores, np.ones((2, 4)).tolist())
    assert found == mean_interval([1.0, 1.0, 1.0, 0.5])
    assert found.high < 1


def test_items_that_a_run_has_no_score_of_count_in_the_others():
    """The closed form of the ratios is near the bootstrap that weights a little uneven give."""
    generator = np.random.default_rng(1)
    scores = generator.normal(generator.normal(0, 1, 300), 0.5, (3, 300))
    weights = (generator.random((3, 300)) < 0.7).astype(float)
    found = clustered_interval(scores.tolist(), weights.tolist())
    weights[0, weights[0] > 0] = np.where(np.arange(weights[0].sum()) % 2, 1, 1 + 1e-9)
    assert ends(found) == pytest.approx(
        ends(clustered_interval(scores.tolist(), weights.tolist())), abs=0.01
    )
    nowhere = np.append(weights > 0, np.zeros((3, 1)), axis=1).astype(float)
    longer = np.append(scores, np.full((3, 1), 99.0), axis=1)
    assert clustered_interval(longer.tolist(), nowhere.tolist()) == found


def test_one_run_is_the_bootstrap_of_its_scores_where_weights_differ():
    scores, weights = [0.1, 0.9, 0.4, 0.4], [1.0, 2.0, 3.0, 4.0]
    assert clustered_interval([scores], [weights]) == mean_interval(scores, weights)


def test_draws_in_which_a_run_has_no_score_are_left_out():
    found = clustered_interval([[1.0, 0.0], [0.5, 0.0]], [[1.0, 2.0], [1.0, 0.0]])
    assert found == Interval(pytest.approx((1 / 3 + 0.5) / 2), pytest.approx(0.75))


def test_runs_of_different_lengths_and_without_scores_are_refused():
    for scores, weights in ([], []), ([[1.0], [1.0, 0.0]], [[1.0], [1.0]]):
        with pytest.raises(ValueError, match="a score and a weight for each item"):
            clustered_interval(scores, weights)
    with pytest.raises(ValueError, match="an item with a weight"):
        clustered_interval([[1.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])


def test_students_interval_is_scipys_and_says_nothing_of_too_little():
    values = [0.6, 0.5, 0.8, 0.65]
    assert ends(student_interval(values)) == pytest.approx(students(values))
    assert student_interval([0.1, 0.2]) is None
    assert student_interval([0.5] * 5) is None
