"""What PPO keeps from rollout to rollout: the coefficient of the KL and moments of the scores."""

import json
import math

import numpy as np
import pytest
import torch

from pipeline.rewards.running_moments import RunningMoments
from pipeline.rl.core import AdaptiveKL, FixedKL, masked_mean, masked_sum


def test_the_coefficient_is_steered_by_the_kl_of_whole_sequences() -> None:
    """B36: the golden path of the coefficient."""
    controller = AdaptiveKL(0.2, target=6, horizon=10_000)
    for kl, coef in [(12, 0.201024), (3, 0.19999475712), (6.6, 0.20050674369822719)]:
        controller.update(kl, episodes=256)
        assert controller.coef == pytest.approx(coef, abs=1e-15)


def test_sixty_tokens_of_a_tenth_are_the_target_of_six() -> None:
    """B36: the mean over tokens in place of the sum over a sequence would lower the coefficient."""
    kl = torch.full((4, 60), 0.1, dtype=torch.float64)
    mask = torch.ones(4, 60, dtype=torch.bool)
    for nats, coef in [
        (float(masked_sum(kl, mask)) / len(kl), 0.2),
        (float(masked_mean(kl, mask)), 0.2 * (1 - 0.2 * 256 / 10_000)),
    ]:
        controller = AdaptiveKL(0.2, target=6, horizon=10_000)
        controller.update(nats, episodes=256)
        assert controller.coef == pytest.approx(coef, abs=1e-12)


def test_a_fixed_coefficient_stays() -> None:
    controller = FixedKL(0.05)
    controller.update(100.0, episodes=256)
    assert controller.coef == 0.05


def test_controllers_go_on_where_their_state_was_written() -> None:
    whole, first = (AdaptiveKL(0.2, target=6, horizon=1000) for _ in range(2))
    for controller in (whole, first):
        controller.update(9.0, episodes=64)
    second = AdaptiveKL(7.0, target=6, horizon=1000)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for controller in (whole, second):
        controller.update(6.9, episodes=64)
    assert second.coef == whole.coef


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_running_moments_are_those_of_everything_seen(chunk: int) -> None:
    numbers = np.random.default_rng(3).normal(1e4, 2.0, 1000)
    moments = RunningMoments()
    for start in range(0, len(numbers), chunk):
        moments.update(torch.from_numpy(numbers[start : start + chunk]))
    assert moments.count == 1000
    assert moments.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert moments.std == pytest.approx(numbers.std(), rel=1e-9)


def test_running_moments_go_on_where_their_state_was_written() -> None:
    numbers = torch.from_numpy(np.random.default_rng(4).normal(3.0, 2.0, 60))
    whole, first, second = RunningMoments(), RunningMoments(), RunningMoments()
    for moments in (whole, first):
        moments.update(numbers[:25])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for moments in (whole, second):
        moments.update(numbers[25:])
    assert second.state_dict() == whole.state_dict()


def test_running_moments_leave_out_what_is_no_number() -> None:
    moments = RunningMoments()
    moments.update(torch.tensor([[1.0, math.nan], [math.nan, 3.0]]))
    moments.update(torch.tensor([math.nan]))
    assert (moments.count, moments.mean, moments.std) == (2, 2.0, 1.0)


def test_a_deviation_of_nothing_divides_nothing() -> None:
    """B12: 1 stands for the deviation of a single number and of equal ones."""
    moments = RunningMoments()
    assert moments.std == 1.0
    for _ in range(3):
        moments.update(torch.tensor([5.0]))
        assert moments.std == 1.0
