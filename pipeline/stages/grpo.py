"""Stage `grpo`: group relative policy optimisation on rewards, without a critic (pipeline/rl/).

Shao et al. 2024, "DeepSeekMath", and its kin by `training_args` under TRL's names: Dr. GRPO, DAPO,
BNPO, CISPO, GSPO, REINFORCE++. Responses to one prompt are compared with each other.
"""

from __future__ import annotations

from typing import Any, Literal

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, GROUP_LEARNING_RATE
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.stages.rl.config import GroupStage

# Those of GRPOConfig that decide most; its docstring says where they come from.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": GROUP_LEARNING_RATE,
    "lr_scheduler_type": "linear",
    "num_train_epochs": 1,
    "num_generations": 8,
    "num_iterations": 1,
    "beta": 0.0,
    "loss_type": "dapo",
    "scale_rewards": "group",
    "max_completion_length": 512,
}


class GrpoConfig(GroupStage):
    """model: the policy to train; as it comes in, it is also the reference.

    batch_size: responses per optimizer step over all devices; a rollout has as many, or
    `generation_batch_size` of `training_args`, `num_generations` to each of its prompts.
    """

    stage: Literal["grpo"]


def run(config: GrpoConfig, context: StageContext) -> StageResult:
    """Read prompts, load models, train, compare with best-of-n, save the policy."""
    from pipeline.rl.config.grpo import GRPOConfig
    from pipeline.rl.grpo import GRPOTrainer
    from pipeline.stages.rl.actors import load_actor
    from pipeline.stages.rl.assembly import assemble
    from pipeline.stages.rl.training import train_on_rollouts

    stage = assemble(config, context, STAGE, GRPOConfig, GRPOTrainer, load_actor)
    return train_on_rollouts(stage, config, context)


STAGE = Stage(
    config=GrpoConfig,
    run=run,
    produces="policy",
    version=8,
    trainer="GRPOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": ADAPTER_LEARNING_RATE},
    data_forms=("prompt",),
    is_distributed=True,
    splits="moments",
)
