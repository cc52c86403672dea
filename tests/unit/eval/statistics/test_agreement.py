"""Agreement with people against statsmodels, SciPy and loops that count."""

import random

import pytest
from statsmodels.stats.inter_rater import cohens_kappa as statsmodels_kappa
from statsmodels.stats.inter_rater import to_table

from eval.statistics.agreement import JudgedPair, cohens_kappa, measure_agreement
from eval.statistics.intervals import blaker, paired_difference, tango

SIDES = ("first", "second")


def other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def judged(
    seed: int, n: int = 120, *, right=0.7, first=0.1, silent=0.0, tie=0.0
) -> list[JudgedPair]:
    """Pairs of a judge that is right so often, and takes the first place so often instead."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(n):
        label = draw.choice(SIDES)
        opinion = label if draw.random() < right else other(label)
        said = []
        for shown_first in SIDES:
            verdict = shown_first if draw.random() < first else opinion
            verdict = "tie" if draw.random() < tie else verdict
            said.append(None if draw.random() < silent else verdict)
        lengths = (draw.randint(1, 30), draw.randint(1, 30))
        pairs.append(JudgedPair(label, said[0], said[1], lengths))
    return pairs


@pytest.mark.parametrize("seed", range(12))
def test_kappa_and_its_interval_are_statsmodels(seed):
    draw = random.Random(seed)
    labels = [draw.choice("abc") for _ in range(90)]
    verdicts = [label if draw.random() < 0.6 else draw.choice("abc") for label in labels]
    index = {name: number for number, name in enumerate("abc")}
    rows = [[index[a], index[b]] for a, b in zip(labels, verdicts, strict=True)]
    expected = statsmodels_kappa(to_table(rows, 3)[0])
    found = cohens_kappa(labels, verdicts)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.kappa, expected.kappa_low, expected.kappa_upp), abs=1e-12
    )


def test_kappa_of_raters_that_always_agree_is_not_called_certain():
    found = cohens_kappa(["a", "b"] * 20, ["a", "b"] * 20)
    assert found.value == found.high == 1
    assert found.low == pytest.approx(2 * blaker(40, 40).low - 1)
    assert cohens_kappa(["a"] * 9, ["a"] * 9) is None


def test_what_prefers_neither_is_never_an_agreement_for_kappa():
    pairs = [JudgedPair("first", "tie", "tie", (1, 1)), JudgedPair("second", None, None, (1, 1))]
    assert measure_agreement(pairs).kappa.value == 0


@pytest.mark.parametrize("seed", range(8))
def test_every_figure_is_what_a_loop_counts(seed):
    pairs = judged(seed, silent=0.1, tie=0.1)
    right = longer = first = orders = differ = both = silent = ties = 0.0
    preferred = is_right = unequal = 0.0
    for pair in pairs:
        said = [pair.in_order, pair.swapped]
        if None in said:
            silent += 1
            verdict = "tie"
        else:
            both += 1
            differ += said[0] != said[1]
            verdict = said[0] if said[0] == said[1] else "tie"
            ties += verdict == "tie"
        right += 0.5 if verdict == "tie" else verdict == pair.label
        a, b = pair.lengths
        by_length = "tie" if a == b else "first" if a > b else "second"
        longer += 0.5 if a == b else by_length == pair.label
        if a != b:
            unequal += 1
            is_right += by_length == pair.label
            preferred += 0.5 if verdict == "tie" else verdict == by_length
        answered = [
            0.5 if win == "tie" else win == place
            for win, place in zip(said, SIDES, strict=True)
            if win is not None
        ]
        if answered:
            first += sum(answered) / len(answered)
            orders += 1
    found, n = measure_agreement(pairs), len(pairs)
    assert (found.n, found.ties, found.unanswered) == (n, ties, silent)
    assert found.orders_differ == differ
    assert found.accuracy.value == pytest.approx(right / n)
    assert found.longer_accuracy.value == pytest.approx(longer / n)
    assert found.above_longer.value == pytest.approx((right - longer) / n)
    assert found.first_place.value == pytest.approx(first / orders)
    assert found.disagreement.value == pytest.approx(differ / both)
    assert found.longer_is_right.value == pytest.approx(is_right / unequal)
    assert found.longer_is_preferred.value == pytest.approx(preferred / unequal)
    assert found.length_bias.value == pytest.approx((preferred - is_right) / unequal)
    for estimate in (found.accuracy, found.first_place, found.disagreement, found.length_bias):
        assert estimate.low < estimate.value < estimate.high


def test_a_tie_counts_half_with_the_interval_of_wins_and_losses():
    pairs = judged(3, first=0.3)
    wins = sum(pair.verdict == pair.label for pair in pairs)
    losses = sum(pair.verdict == other(pair.label) for pair in pairs)
    expected = tango(wins, losses, len(pairs))
    found = measure_agreement(pairs).accuracy
    assert (found.low, found.high) == ((1 + expected.low) / 2, (1 + expected.high) / 2)


def test_the_difference_to_length_is_paired():
    pairs = judged(4, first=0)
    right = [float(pair.verdict == pair.label) for pair in pairs]
    length = [pair.credit(pair.longer) for pair in pairs]
    value, interval = paired_difference(right, length)
    found = measure_agreement(pairs).above_longer
    assert (found.value, found.low, found.high) == (value, interval.low, interval.high)


def test_a_judge_that_always_takes_the_first_place_is_known_by_it():
    found = measure_agreement([JudgedPair("first", "first", "second", (1, 2))] * 50)
    assert found.first_place.value == found.disagreement.value == 1
    assert found.first_place.low > 0.9
    assert (found.accuracy.value, found.ties, found.orders_differ) == (0.5, 50, 50)


def test_a_judge_of_length_is_known_by_it():
    draw = random.Random(0)
    pairs = []
    for _ in range(200):
        label = draw.choice(SIDES)
        is_longer = draw.random() < 0.6
        longer = label if is_longer else other(label)
        lengths = (9, 5) if longer == "first" else (5, 9)
        pairs.append(JudgedPair(label, longer, longer, lengths))
    found = measure_agreement(pairs)
    assert found.longer_is_preferred.value == 1
    assert found.length_bias.low > 0.3
    assert found.above_longer.low < 0 < found.above_longer.high
    assert found.first_place.value == pytest.approx(0.5)


def test_scores_have_no_places_and_one_length_has_no_bias():
    found = measure_agreement([JudgedPair("first", "first", "first", (2, 2))], has_orders=False)
    assert found.first_place is None
    assert found.disagreement is None
    assert found.length_bias is None
    with pytest.raises(ValueError, match="no pair"):
        measure_agreement([])
