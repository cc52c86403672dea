"""Stage `rloo`: REINFORCE with the other responses to a prompt as baseline (pipeline/rl/).

Ahmadian et al. 2024, "Back to basics"; `training_args` under TRL's names.
"""

from __future__ import annotations

from typing import Any, Literal

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, GROUP_LEARNING_RATE
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.stages.rl.config import GroupStage

# Those of RLOOConfig that decide most; its docstring says where they come from.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": GROUP_LEARNING_RATE,
    "lr_scheduler_type": "linear",
    "num_train_epochs": 1,
    "num_generations": 2,
    "num_iterations": 1,
    "beta": 0.05,
    "max_completion_length": 512,
}


class RlooConfig(GroupStage):
    """model: the policy to train; as it comes in, it is also the reference.

    batch_size: responses per optimizer step over all devices; a rollout has as many, or
    `generation_batch_size` of `training_args`, `num_generations` to each of its prompts.
    """

    stage: Literal["rloo"]


def run(config: RlooConfig, context: StageContext) -> StageResult:
    """Read prompts, load models, train, compare with best-of-n, save the policy."""
    from pipeline.rl.config.rloo import RLOOConfig
    from pipeline.rl.rloo import RLOOTrainer
    from pipeline.stages.rl.actors import load_actor
    from pipeline.stages.rl.assembly import assemble
    from pipeline.stages.rl.training import train_on_rollouts

    stage = assemble(config, context, STAGE, RLOOConfig, RLOOTrainer, load_actor)
    return train_on_rollouts(stage, config, context)


STAGE = Stage(
    config=RlooConfig,
    run=run,
    produces="policy",
    version=8,
    trainer="RLOOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": ADAPTER_LEARNING_RATE},
    data_forms=("prompt",),
    is_distributed=True,
    splits="moments",
)
