"""Contests of several responses, and how RewardBench makes one figure of its subsets."""

import itertools
import math
import random

import pytest

from eval.statistics.contests import Contest, accuracy_of, report_contests
from eval.statistics.pairwise import ScoredPair, report_pairs
from eval.statistics.reward_bench import SECTIONS, score_ties, second_version_of, sections_of


def contest(
    chosen: tuple[float, ...],
    rejected: tuple[float, ...],
    subset: str = "",
    key: str = "",
    probability: float = 1.0,
) -> Contest:
    lengths = tuple(5 + n for n in range(len(chosen))), tuple(7 + n for n in range(len(rejected)))
    return Contest(chosen, rejected, *lengths, subset=subset, key=key, probability=probability)


def test_the_best_of_four_is_right_and_shares_a_tie_with_those_that_tie() -> None:
    assert contest((2.0,), (1.0, 0.0, -1.0)).is_right == 1
    assert contest((2.0,), (3.0, 0.0, -1.0)).is_right == 0
    assert contest((2.0,), (2.0, 2.0, -1.0)).is_right == pytest.approx(1 / 3)
    assert contest((2.0,), (2.0,)).is_right == 0.5
    # Of several right answers the worst counts.
    assert contest((2.0, 0.5), (0.4, 0.3)).is_right == 1
    assert contest((2.0, 0.3), (0.4, 0.3)).is_right == 0


def test_confidence_is_that_of_a_bradley_terry_model() -> None:
    assert contest((1.5,), (0.5,)).confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert contest((800.0,), (-800.0,)).confidence == 1.0
    assert contest((0.0,), (0.0, 0.0, 0.0)).confidence == pytest.approx(0.25)


def test_of_pairs_alone_the_report_is_that_of_a_reward_model_on_held_out_pairs() -> None:
    draw = random.Random(1)
    contests = [
        contest((draw.gauss(0.5, 1),), (draw.gauss(0, 1),), probability=draw.choice([1.0, 0.8]))
        for _ in range(60)
    ]
    expected = report_pairs([pair for one in contests for pair in one.pairs])
    found = report_contests(contests)
    for key in ("n", "accuracy", "low", "high", "calibration_error", "scores"):
        assert found[key] == pytest.approx(expected[key]), key
    assert found["calibration"] == expected["calibration"]
    assert found["length"]["correlation"] == pytest.approx(expected["length"]["correlation"])
    assert found["pairs"] == 60


def test_every_chosen_response_is_paired_with_every_rejected_one() -> None:
    pairs = contest((3.0, 1.0), (2.0, 0.0)).pairs
    margins = sorted(pair.margin for pair in pairs)
    assert margins == [-1, 1, 1, 3]
    assert ScoredPair(1.0, 2.0, 6, 7) in pairs


def one_of(subset: str, right: int, wrong: int) -> list[Contest]:
    won, lost = contest((1.0,), (0.0,), subset), contest((0.0,), (1.0,), subset)
    return [won] * right + [lost] * wrong


def test_sections_weigh_their_subsets_as_reward_bench_does() -> None:
    """Written out from upstream's rule: the counts are weights, whatever is there of a subset."""
    draw = random.Random(3)
    contests: list[Contest] = []
    accuracies: dict[str, float] = {}
    for subset in itertools.chain.from_iterable(SECTIONS.values()):
        right, wrong = draw.randint(1, 9), draw.randint(1, 9)
        contests += one_of(subset, right, wrong)
        accuracies[subset] = right / (right + wrong)
    found = sections_of(contests)
    for section, counts in SECTIONS.items():
        total = sum(accuracies[name] * count for name, count in counts.items())
        assert found[section]["accuracy"] == pytest.approx(total / sum(counts.values()))
        assert found[section]["low"] < found[section]["accuracy"] < found[section]["high"]
    means = [found[section]["accuracy"] for section in SECTIONS]
    assert found["All"]["accuracy"] == pytest.approx(sum(means) / 4)
    assert found["All"]["n"] == len(contests)


def test_a_section_without_some_subsets_says_so_and_the_whole_needs_all_sections() -> None:
    found = sections_of(one_of("hep-cpp", 3, 1) + one_of("hep-go", 1, 1))
    assert set(found) == {"Reasoning"}
    assert found["Reasoning"]["accuracy"] == pytest.approx((0.75 + 0.5) / 2)
    assert "math-prm" in found["Reasoning"]["missing"]


def test_subsets_of_other_data_have_no_sections() -> None:
    assert sections_of(one_of("hep-cpp", 3, 1) + one_of("mine", 1, 1)) == {}
    assert sections_of([contest((1.0,), (0.0,))]) == {}
    assert second_version_of(one_of("Safety", 3, 1)) == {}  # may be anybody's


def test_a_section_of_one_subset_has_that_subsets_interval() -> None:
    own = one_of("math-prm", 30, 20)
    alone, found = accuracy_of(own), sections_of(own)["Reasoning"]
    assert found["accuracy"] == pytest.approx(alone["accuracy"])
    assert (found["low"], found["high"]) == pytest.approx((alone["low"], alone["high"]))


def test_ties_are_scored_by_accuracy_and_by_how_alike_right_answers_are() -> None:
    plain = [contest((2.0,), (1.0,), "Ties", "ref:0"), contest((0.0,), (1.0,), "Ties", "ref:1")]
    tied = [
        contest((5.0, 4.8), (1.0, 0.0), "Ties", "tied:0"),  # right, and right answers alike
        contest((5.0, 1.5), (1.0, 0.0), "Ties", "tied:1"),  # right, and far apart
    ]
    margins = [math.tanh(1.0 / 0.2 - 1), math.tanh(-1.0 / 3.5 - 1)]
    expected = 0.3 * 1.0 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * sum(margins) / 2
    assert score_ties([*plain, *tied]) == pytest.approx(expected)
    assert score_ties(tied) is None


def test_version_two_is_the_mean_of_its_subsets() -> None:
    others = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    contests = [one for n, name in enumerate(others) for one in one_of(name, n, 4)]
    contests += [
        contest((2.0,), (1.0,), "Ties", "ref:0"),
        contest((5.0, 4.8), (1.0,), "Ties", "tied:0"),
    ]
    found = second_version_of(contests)
    assert found["Math"] == pytest.approx(2 / 6)
    assert found["All"] == pytest.approx(sum(found[name] for name in (*others, "Ties")) / 6)
