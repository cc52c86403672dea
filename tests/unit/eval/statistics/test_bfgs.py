"""Many minimisations side by side: known minima, each as if it were alone, within bounds."""

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from eval.statistics.bfgs import Numbers, Places, minimise

FREE = np.full(3, np.inf)


def rosenbrock(points: Numbers, which: Places) -> tuple[Numbers, Numbers]:
    """A curved valley whose lowest point is 1, 1, 1; each function has a scale of its own."""
    scales = 10.0 ** (which % 5)
    return scales * rosen(points.T), scales[:, None] * rosen_der(points.T).T


def starts(number: int) -> Numbers:
    return np.random.default_rng(3).uniform(-1.5, 1.5, (number, 3))


def test_every_function_is_followed_to_its_lowest_point() -> None:
    ends, values = minimise(rosenbrock, starts(40), lowest=-FREE, highest=FREE, max_iterations=500)
    assert ends == pytest.approx(np.ones((40, 3)), abs=1e-3)
    assert values == pytest.approx(np.zeros(40), abs=1e-6)


def test_a_function_ends_where_it_would_alone() -> None:
    together, _ = minimise(rosenbrock, starts(40), lowest=-FREE, highest=FREE, max_iterations=60)
    fewer, _ = minimise(rosenbrock, starts(40)[:7], lowest=-FREE, highest=FREE, max_iterations=60)
    assert (together[:7] == fewer).all()


def test_bounds_are_kept_and_reached() -> None:
    ends, _ = minimise(
        lambda points, _: (((points - 5) ** 2).sum(axis=1), 2 * (points - 5)),
        starts(6),
        lowest=np.array([-np.inf, -np.inf, -np.inf]),
        highest=np.array([np.inf, np.inf, 4.0]),
        max_iterations=100,
    )
    assert ends == pytest.approx(np.tile([5.0, 5.0, 4.0], (6, 1)), abs=1e-6)


def test_a_start_that_is_the_end_is_left_where_it_is() -> None:
    ends, values = minimise(
        rosenbrock, np.ones((2, 3)), lowest=-FREE, highest=FREE, max_iterations=50
    )
    assert (ends == 1).all()
    assert (values == 0).all()
