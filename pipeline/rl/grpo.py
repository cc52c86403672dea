"""GRPOTrainer: group relative policy optimisation, and its kin by a choice in GRPOConfig.

Shao et al. 2024, "DeepSeekMath". Responses to one prompt are compared with each other; there is no
critic. TRL's arguments, in TRL's order:

    trainer = GRPOTrainer(
        model="my/sft-model",
        reward_funcs=lambda completions, **_: [float(len(set(c))) for c in completions],
        args=GRPOConfig(output_dir="grpo", num_generations=8),
        train_dataset=Dataset.from_list([{"prompt": "Say something kind."}]),
    )
    trainer.train()
"""

from __future__ import annotations

from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.group_trainer import GroupTrainer


class GRPOTrainer(GroupTrainer):
    """Trains a policy by GRPO; arguments as GroupTrainer's."""

    args: GRPOConfig
    config_class = GRPOConfig
