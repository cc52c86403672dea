"""Rewards that are hacked on purpose show their sign and are stopped; an honest one shows none.

Three methods, three seeds; an honest reward is learnt, so that no sign was shown for want of a
change.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.hacked_rewards import HACKS, METHODS, Hack, last_token_first, trainer_of

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hack", HACKS, ids=lambda hack: hack.sign)
def test_a_hacked_reward_shows_its_sign_and_stops(
    hack: Hack, method: str, seed: int, tmp_path: Path
) -> None:
    said: list[Any] = []
    how: Any = {"rollouts": 120, "on_sign": said.append, "stop_when": {hack.sign: True}}
    trainer = trainer_of(hack, method, seed, tmp_path, **how)
    trainer.train()
    assert trainer.stopped is not None
    assert trainer.stopped.by.sign == hack.sign
    assert trainer.stopped.by.stops
    assert trainer.stopped.went_back_to is not None
    assert trainer.stopped.went_back_to < trainer.stopped.by.began
    assert trainer.stopped.by in said  # others may show themselves in the same rollout


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_an_honest_reward_is_learnt_without_a_sign(method: str, seed: int, tmp_path: Path) -> None:
    said: list[Any] = []
    honest = Hack("", last_token_first, 1, settings={"per_device_train_batch_size": 64})
    trainer = trainer_of(honest, method, seed, tmp_path, rollouts=300, on_sign=said.append)
    trainer.train()
    scores = [line["objective/scores"] for line in trainer.state.log_history if "lr" in line]
    assert scores[0] < 0.3
    assert sum(scores[-10:]) / 10 > 0.6
    assert [shown.sign for shown in said] == []
