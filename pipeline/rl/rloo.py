"""RLOOTrainer: REINFORCE, with the mean of the other responses to a prompt as baseline.

Ahmadian et al. 2024, "Back to basics". TRL's arguments, in TRL's order; see grpo.py.
"""

from __future__ import annotations

from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.group_trainer import GroupTrainer


class RLOOTrainer(GroupTrainer):
    """Trains a policy by RLOO; arguments as GroupTrainer's."""

    args: RLOOConfig
    config_class = RLOOConfig
