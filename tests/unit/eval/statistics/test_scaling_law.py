"""Scaling laws: constants that are known come back, the published fit does, and what is refused."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from eval.statistics.scaling_law import (
    CHINCHILLA,
    CHINCHILLA_REPLICATED,
    CONSTANTS,
    ScalingLaw,
    TrainingRun,
    fit_law,
    fit_with_intervals,
)

PUBLISHED = Path(__file__).parent / "chinchilla_runs.csv"
SIZES = (5e6, 2e7, 8e7, 3e8)
AMOUNTS = (1e8, 5e8, 3e9, 2e10)
# Standard errors of Besiroglu et al. 2024, table 1.
PUBLISHED_ERRORS = {"E": 0.03, "alpha": 0.02, "beta": 0.02}


def runs_of(law: ScalingLaw, *, noise: float = 0.0, seed: int = 0) -> list[TrainingRun]:
    drawn = np.random.default_rng(seed)
    return [
        TrainingRun(n, d, law.loss(n, d) * float(np.exp(noise * drawn.standard_normal())))
        for n, d in product(SIZES, AMOUNTS)
    ]


def published_runs() -> list[TrainingRun]:
    """The models that the replication fitted: all but the five of the highest loss."""
    lines = [line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")]
    runs: list[TrainingRun] = []
    for row in csv.DictReader(lines):
        parameters, compute = 1e6 * float(row["parameters"]), 1e18 * float(row["compute"])
        runs.append(TrainingRun(parameters, compute / (6 * parameters), float(row["loss"])))
    assert len(runs) == 245
    return sorted(runs, key=lambda run: run.loss)[:-5]


@pytest.mark.parametrize("law", [CHINCHILLA, CHINCHILLA_REPLICATED])
def test_constants_that_are_known_come_back(law: ScalingLaw) -> None:
    found = fit_law(runs_of(law))
    for name in CONSTANTS:
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-3)


def test_the_published_fit_comes_back_from_the_published_runs() -> None:
    found = fit_law(published_runs())
    for name, error in PUBLISHED_ERRORS.items():
        assert getattr(found, name) == pytest.approx(
            getattr(CHINCHILLA_REPLICATED, name), abs=error / 2
        )


def test_a_published_outlier_hardly_moves_the_law() -> None:
    runs = runs_of(CHINCHILLA)
    spoilt = [TrainingRun(run.parameters, run.tokens, 1.5 * run.loss) for run in runs[:1]]
    found = fit_law([*spoilt, *runs[1:]])
    assert found.alpha == pytest.approx(CHINCHILLA.alpha, rel=0.02)


@pytest.mark.parametrize("compute", [1e18, 1e21])
def test_no_other_division_of_a_compute_has_a_lower_loss(compute: float) -> None:
    parameters, tokens = CHINCHILLA.allocate(compute)
    assert 6 * parameters * tokens == pytest.approx(compute)
    best = CHINCHILLA.loss(parameters, tokens)
    for factor in (0.5, 0.9, 1.1, 2):
        assert CHINCHILLA.loss(parameters * factor, tokens / factor) > best


def test_intervals_hold_the_truth_and_are_the_same_for_a_seed() -> None:
    runs = runs_of(CHINCHILLA_REPLICATED, noise=0.003, seed=5)
    found = fit_with_intervals(runs, resamples=30, seed=1)
    again = fit_with_intervals(runs, resamples=5, seed=1)
    assert again.resampled == found.resampled[:5]
    for name in ("alpha", "beta"):
        constant = found.constant(name)
        assert constant.low is not None
        assert constant.high is not None
        assert constant.low < getattr(CHINCHILLA_REPLICATED, name) < constant.high
    truth = CHINCHILLA_REPLICATED.loss(1e9, 1e11)
    predicted = found.predict(1e9, 1e11)
    assert predicted.low is not None
    assert predicted.high is not None
    assert predicted.low < truth < predicted.high
    assert found.error < 0.01


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (runs_of(CHINCHILLA)[:4], "4 different runs of 1 sizes and 4 amounts"),
        (runs_of(CHINCHILLA)[:8], "8 different runs of 2 sizes"),
        ([*runs_of(CHINCHILLA)[:1]] * 20, "1 different runs"),
    ],
)
def test_runs_that_fix_no_law_are_refused(runs: list[TrainingRun], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_law(runs)


def test_a_constant_that_the_runs_do_not_have_is_0() -> None:
    law = ScalingLaw(E=0.0, A=9.0, alpha=0.3, B=7.0, beta=0.13)
    found = fit_with_intervals(runs_of(law, noise=0.002), resamples=10, seed=1)
    assert found.law.E == 0.0
    assert found.constant("E").low == 0.0
    assert found.law.loss(1e9, 1e11) == pytest.approx(law.loss(1e9, 1e11), rel=0.02)
