"""The price of a nat of KL that is told, wherever a method takes it: in the reward or the loss."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.experience import experience_of
from tests.unit.rl.test_unscored import some_rows


@pytest.mark.parametrize(
    ("kind", "settings", "price"),
    [
        (GRPOConfig, {"beta": 0.1}, 0.1),
        (GRPOConfig, {}, 0.0),
        (GRPOConfig, {"beta": 0.1, "advantage_estimator": "reinforce"}, 0.1),
        (PPOConfig, {"kl_coef": 0.05}, 0.05),
        (PPOConfig, {"kl_coef": 0.05, "kl_loss_coef": 0.2}, 0.25),
    ],
)
def test_what_a_nat_costs_is_told(
    kind: Any, settings: dict[str, Any], price: float, tmp_path: Path
) -> None:
    groups = {} if kind is PPOConfig else {"num_generations": 4}
    args = kind(output_dir=str(tmp_path), **groups, **settings)
    _, metrics = experience_of(some_rows(), torch.ones(4), args.kl_control[0], args)
    assert metrics["objective/kl_coef"] == pytest.approx(price)
