"""Whether series moved: the rule finds what parts, and seldom what is noise."""

import itertools

import numpy as np
import pytest

from eval.statistics.drift import (
    LEVEL_OF_A_LOOK,
    has_fallen,
    has_parted,
    is_higher,
    is_look,
    peak_of,
    quarters,
)

RISING = 0.5  # of the noise, a mean: a proxy that is paid more and more


def _first_alarm(proxies: np.ndarray, golds: np.ndarray, *, level: float) -> int | None:
    """Return after how many means a training that is watched is said to be over-optimised."""
    for number in filter(is_look, range(len(golds) + 1)):
        if has_parted(quarters(proxies[:number], golds[:number]), level=level):
            return number
    return None


def _noise(generator: np.random.Generator, number: int, slope: float) -> np.ndarray:
    return slope * np.arange(number) + generator.standard_normal(number)


@pytest.mark.parametrize("number", [64, 200])
def test_a_gold_score_that_stays_is_seldom_said_to_fall(number: int) -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(80):
        proxies, golds = _noise(generator, number, RISING), _noise(generator, number, 0.0)
        alarms += _first_alarm(proxies, golds, level=LEVEL_OF_A_LOOK) is not None
    assert alarms / 80 <= 0.1


def test_at_the_usual_level_so_many_looks_would_cry_wolf() -> None:
    """A control: of the level, not of the looks' number, are the alarms above so few."""
    generator = np.random.default_rng(0)
    series = [(_noise(generator, 200, RISING), _noise(generator, 200, 0.0)) for _ in range(60)]
    found = [_first_alarm(proxies, golds, level=0.025) for proxies, golds in series]
    assert sum(each is not None for each in found) / 60 > 0.15


def test_a_gold_score_that_turns_is_found_while_the_proxy_rises() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        proxies = _noise(generator, 80, RISING)
        golds = np.concatenate([_noise(generator, 40, 0.1), 4 - _noise(generator, 40, 0.2)])
        found = _first_alarm(proxies, golds, level=LEVEL_OF_A_LOOK)
        assert found is not None
        assert found > 40


def test_what_falls_together_has_not_parted() -> None:
    generator = np.random.default_rng(2)
    falling = quarters(_noise(generator, 64, -RISING), _noise(generator, 64, -RISING))
    assert has_fallen(falling)
    assert not has_parted(falling)


def test_quarters_are_all_of_a_series_and_the_peak_is_none_but_the_last() -> None:
    parts = quarters(range(18), [0.0] * 5 + [3.0] * 4 + [1.0] * 5 + [9.0] * 4)
    assert [(part.begin, part.end) for part in parts] == [(0, 4), (4, 9), (9, 14), (14, 18)]
    assert peak_of(parts) == parts[1]
    assert quarters(range(15), range(15)) == []


def test_series_without_spread_differ_whenever_they_differ() -> None:
    assert is_higher([1.0, 1.0], [0.0, 0.0])
    assert not is_higher([1.0, 1.0], [1.0, 1.0])


def test_looks_grow_apart() -> None:
    looks = list(filter(is_look, range(1001)))
    assert looks[:4] == [16, 17, 18, 19]
    assert len(looks) < 50
    assert all(
        after - before <= 0.1 * before or after - before == 1
        for before, after in itertools.pairwise(looks)
    )
