"""Win rates, pass@k, calibration and power, against independent computations."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from eval.statistics.calibration import calibration
from eval.statistics.intervals import blaker, mcnemar_exact, mean_interval, tango, wilson
from eval.statistics.pairwise import ScoredPair
from eval.statistics.pairwise import calibration as calibration_of_pairs
from eval.statistics.pass_at_k import pass_at_k
from eval.statistics.power import minimum_detectable_difference
from eval.statistics.win_rate import equal_length_win_rate, win_rate


def test_a_win_rate_counts_ties_half_and_takes_the_interval_of_wins_minus_losses():
    rate, interval = win_rate([1.0] * 5 + [0.5] * 4 + [0.0])
    difference = tango(5, 1, 10)
    assert rate == pytest.approx(0.7)
    assert (interval.low, interval.high) == pytest.approx(
        (0.5 + difference.low / 2, 0.5 + difference.high / 2)
    )
    assert win_rate([1.0] * 9 + [0.0]) == (0.9, blaker(9, 10))
    _, tied = win_rate([0.5] * 30)
    assert tied.high == pytest.approx(0.5 + wilson(0, 30).high / 2)


def test_several_samples_of_a_prompt_are_no_more_prompts():
    generator = np.random.default_rng(0)
    rates = generator.beta(1, 1, 40)
    outcomes = (generator.random((5, 40)) < rates).astype(float)
    prompts = [str(prompt) for prompt in range(40)] * 5
    rate, interval = win_rate(outcomes.ravel().tolist(), prompts)
    assert rate == pytest.approx(outcomes.mean())
    assert interval == mean_interval(outcomes.mean(axis=0).tolist())
    pretended = blaker(int(outcomes.sum()), 200)
    assert interval.high - interval.low > 1.3 * (pretended.high - pretended.low)


def test_every_prompt_counts_the_same_however_many_samples_it_has():
    rate, interval = win_rate([1.0, 0.0, 0.0, 0.5], ["a", "b", "b", "b"])
    assert rate == pytest.approx((1 + 0.5 / 3) / 2)
    assert interval.low < rate < interval.high
    assert win_rate([1.0, 0.0], ["a", "a"]) == (0.5, None)


def test_what_is_no_outcome_is_refused():
    for outcome in (1.2, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"from 0 \(loss\) over 0.5 \(tie\) to 1 \(win\)"):
            win_rate([1.0, outcome])
    with pytest.raises(ValueError, match="no outcome"):
        win_rate([])
    with pytest.raises(ValueError, match="1 prompts for 2 outcomes"):
        win_rate([1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="1 length differences for 2 outcomes"):
        equal_length_win_rate([1.0, 0.0], [3.0])


def preferred_by_length(seed, num_prompts, samples, logit=0.4, slope=1.5):
    """Outcomes with ties, length differences that help, and prompts."""
    generator = np.random.default_rng(seed)
    lengths = generator.normal(60, 100, num_prompts * samples).round()
    prompts = np.repeat(np.arange(num_prompts), samples).astype(str)
    logits = logit + slope * np.tanh(lengths / lengths.std(ddof=1))
    wins = generator.random((2, len(logits))) < 1 / (1 + np.exp(-logits))
    return wins.mean(axis=0).tolist(), lengths.tolist(), prompts.tolist()


@pytest.mark.parametrize(("num_prompts", "samples"), [(150, 1), (60, 4)])
def test_the_equal_length_win_rate_is_the_intercept_of_statsmodels(num_prompts, samples):
    outcomes, lengths, prompts = preferred_by_length(3, num_prompts, samples)
    rate, interval = equal_length_win_rate(outcomes, lengths, prompts)
    scaled = np.tanh(np.array(lengths) / np.std(lengths, ddof=1))
    design = np.stack([np.ones(len(scaled)), scaled], axis=1)
    fit = GLM(outcomes, design, family=Binomial()).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.unique(prompts, return_inverse=True)[1], "use_correction": False},
    )
    assert math.log(rate / (1 - rate)) == pytest.approx(fit.params[0], abs=1e-6)
    error = fit.bse[0] * math.sqrt(num_prompts / (num_prompts - 2))
    reach = stats.t.ppf(0.975, num_prompts - 2) * error
    for end, expected in ((interval.low, -reach), (interval.high, reach)):
        assert math.log(end / (1 - end)) == pytest.approx(fit.params[0] + expected, abs=1e-5)


def test_length_alone_wins_nothing_once_it_is_controlled_for():
    outcomes, lengths, prompts = preferred_by_length(0, 1500, 1, logit=0.0, slope=2.0)
    raw, _ = win_rate(outcomes, prompts)
    rate, interval = equal_length_win_rate(outcomes, lengths, prompts)
    assert raw > 0.6
    assert interval.low < 0.5 < interval.high
    assert rate == pytest.approx(0.5, abs=0.06)
    swapped, _ = equal_length_win_rate([1 - o for o in outcomes], [-d for d in lengths])
    assert swapped == pytest.approx(1 - rate, abs=1e-7)


def test_where_length_and_preference_cannot_be_told_apart_there_is_no_rate_at_equal_length():
    assert equal_length_win_rate([1.0, 1.0, 1.0, 1.0], [1, -2, 3, 4]) is None
    assert equal_length_win_rate([0.0, 0.0, 0.0, 0.0], [1, -2, 3, 4]) is None
    assert equal_length_win_rate([1.0, 0.0, 1.0, 0.5], [5, 5, 5, 5]) is None
    assert equal_length_win_rate([1.0, 0.0, 1.0, 0.0], [5, -5, 9, -1]) is None
    assert equal_length_win_rate([1.0, 0.0, 0.5, 0.0], [5, -5, 3, -1]) is None
    assert equal_length_win_rate([1.0, 0.0, 0.5], [5, -5, 3], ["a", "b", "b"]) is None
    assert equal_length_win_rate([0.9, 0.2, 0.7, 0.6], [5, 5, 5, 5]) is None
    assert equal_length_win_rate([1.0, 0.0, 0.5, 0.0], [5, -5, -9, 3]) is not None
    assert equal_length_win_rate([0.9, 0.2, 0.7, 0.6], [5, -5, 3, -1]) is not None


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (6, 0), (6, 2), (7, 5), (8, 8)])
def test_pass_at_k_is_the_share_of_sets_of_k_samples_with_a_right_one(n, c):
    samples = [1] * c + [0] * (n - c)
    for k in range(1, n + 1):
        sets = [max(chosen) for chosen in combinations(samples, k)]
        assert pass_at_k(n, c, k) == pytest.approx(sum(sets) / len(sets), abs=1e-12)


def test_pass_at_k_does_not_overflow_and_refuses_too_few_samples():
    exact = 1 - math.comb(9_990, 100) / math.comb(10_000, 100)
    assert pass_at_k(10_000, 10, 100) == pytest.approx(exact, rel=1e-9)
    for n, c, k in ((4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)):
        with pytest.raises(ValueError, match=f"pass@{k} cannot be told"):
            pass_at_k(n, c, k)


@pytest.mark.parametrize(("n", "share"), [(60, 0.4), (200, 0.1), (1000, 0.05), (300, 0.5)])
def test_the_detectable_difference_is_found_in_about_four_of_five_experiments(n, share):
    difference = minimum_detectable_difference(n, share)
    chances = [(share + difference) / 2, (share - difference) / 2, 1 - share]
    drawn = np.random.default_rng(0).multinomial(n, chances, 2000)
    pairs, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    by_interval = by_test = 0
    for (wins, losses), count in zip(pairs.tolist(), times.tolist(), strict=True):
        by_interval += count * (tango(wins, losses, n).low > 0)
        a = [1.0] * wins + [0.0] * losses
        by_test += count * (mcnemar_exact(a, [1 - score for score in a]) <= 0.05)
    assert 0.77 <= by_interval / 2000 <= 0.88
    assert 0.72 <= by_test / 2000 <= 0.82


def test_differences_that_no_comparison_of_this_size_finds_are_none():
    assert minimum_detectable_difference(100, 0.02) is None
    assert minimum_detectable_difference(100, 0.0) is None
    assert minimum_detectable_difference(2, 1.0) is None
    small, large = (minimum_detectable_difference(n, 0.2) for n in (4000, 100))
    assert small < large
    with pytest.raises(ValueError, match="do not go together"):
        minimum_detectable_difference(100, 1.2)


def test_the_calibration_error_is_what_confidence_and_accuracy_differ_by_in_their_bin():
    confidences, is_right = [0.05, 0.75, 0.78, 0.79, 1.0], [0, 1, 0, 0, 1]
    bins, error = calibration(confidences, is_right)
    assert [(each.n, round(each.confidence, 6), each.accuracy) for each in bins] == [
        (1, 0.05, 0.0),
        (3, round((0.75 + 0.78 + 0.79) / 3, 6), pytest.approx(1 / 3)),
        (1, 1.0, 1.0),
    ]
    assert error == pytest.approx((0.05 + 3 * (2.32 / 3 - 1 / 3)) / 5)
    generator = np.random.default_rng(0)
    sure = generator.random(20_000)
    _, calibrated = calibration(sure.tolist(), (generator.random(20_000) < sure).tolist())
    assert calibrated < 0.02
    with pytest.raises(ValueError, match="outside"):
        calibration([0.3], [1], lowest=0.5)


def test_the_calibration_of_pairs_is_the_same_from_one_half_on():
    generator = np.random.default_rng(0)
    pairs = [ScoredPair(float(a), float(b), 5, 5) for a, b in generator.normal(0, 1, (300, 2))]
    sure = [1 / (1 + math.exp(-abs(pair.margin))) for pair in pairs]
    right = [pair.is_right for pair in pairs]
    bins, error = calibration(sure, right, num_bins=5, lowest=0.5)
    expected_bins, expected = calibration_of_pairs(pairs)
    assert error == pytest.approx(expected)
    assert [each.n for each in bins] == [each.n for each in expected_bins]
