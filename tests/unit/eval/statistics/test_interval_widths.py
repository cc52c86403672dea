"""A few cells of `tests/prove/test_interval_coverage.py`: 95% intervals hold the truth as often."""

import numpy as np
import pytest

from eval.statistics.intervals import blaker, mean_interval, paired_difference, wilson
from tests.coverages import (
    difference_coverages,
    is_within,
    proportion_coverages,
    simulated_coverage,
    students,
    tangos,
)


def test_the_interval_of_a_proportion_covers_more_evenly_than_wilsons():
    found, wilsons = (proportion_coverages(interval, 200) for interval in (blaker, wilson))
    assert is_within(found).all()
    assert not is_within(wilsons).all()
    assert found.mean() == pytest.approx(0.95, abs=0.002)


def test_the_interval_of_wins_minus_losses_covers_where_students_does_not():
    cells = [(0.2, 0.1), (0.85, 0.05), (0.16, 0.04), (0.6, 0.1)]
    assert is_within(difference_coverages(tangos, 50, cells)).all()
    assert not is_within(difference_coverages(students, 50, cells)).all()


@pytest.mark.parametrize(("n", "share"), [(50, 0.1), (50, 0.5), (200, 0.9)])
def test_the_interval_of_partial_credit_covers(n, share):
    drawn = np.random.default_rng(n).beta(4 * share, 4 * (1 - share), (3000, n))
    assert 0.935 <= simulated_coverage(drawn.tolist(), share, mean_interval) <= 0.965


def test_the_interval_of_a_difference_of_partial_credit_covers():
    generator = np.random.default_rng(0)
    difficulty = generator.beta(0.5, 1, (3000, 40))
    a, b = (generator.binomial(3, difficulty) / 3 for _ in range(2))
    pairs = np.stack([a, b], axis=1).tolist()
    found = simulated_coverage(pairs, 0.0, lambda pair: paired_difference(*pair)[1])
    assert 0.935 <= found <= 0.965
