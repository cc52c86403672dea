"""Stage `ppo`: proximal policy optimisation on rewards, with a learned critic (pipeline/rl/).

Schulman et al. 2017, on language models as Ziegler et al. 2019 and Ouyang et al. 2022. The policy
itself answers the prompts; what an answer is worth say reward models, functions of the user's and
the verifiers of tasks, together. The reference is the policy as it comes in.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, LEARNING_RATE
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.stages.rl.ppo_config import PpoConfig

# Those of PPOConfig that decide most; its docstring says where they come from.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "linear",
    "num_train_epochs": 1,
    "num_ppo_epochs": 4,
    "num_mini_batches": 1,
    "max_completion_length": 128,
}


def run(config: PpoConfig, context: StageContext) -> StageResult:
    """Read prompts, load models, train, compare with best-of-n, save policy and critic."""
    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.ppo import PPOTrainer
    from pipeline.stages.rl.actors import load_actor_critic
    from pipeline.stages.rl.assembly import assemble
    from pipeline.stages.rl.training import save_critic, train_on_rollouts

    stage = assemble(config, context, STAGE, PPOConfig, PPOTrainer, load_actor_critic)
    result = train_on_rollouts(stage, config, context)
    if context.is_main:
        save_critic(stage, context)
    return result


STAGE = Stage(
    config=PpoConfig,
    run=run,
    produces="policy",
    version=12,
    trainer="PPOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": ADAPTER_LEARNING_RATE},
    data_forms=("prompt",),
    is_distributed=True,
    splits="moments",
)
