"""Stage `ppo`: proximal policy optimisation on rewards, with a learned critic (pipeline/rl/).

Schulman et al. 2017, on language models as Ziegler et al. 2019 and Ouyang et al. 2022. The policy
itself answers the prompts; what an answer is worth say reward models, functions of the user's and
the verifiers of tasks, together. The reference is the policy as it comes in.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, LEARNING_RATE
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.stages.ppo.config import PpoConfig

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
    from pipeline.models.save import save_adapter, save_trained
    from pipeline.rl.actor_critic import CRITIC
    from pipeline.rl.best_of_n import compare_with_best_of_n
    from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
    from pipeline.stages.ppo.assembly import assemble
    from pipeline.training.loop import train

    stage = assemble(config, context, STAGE)
    trainer = stage.trainer
    metrics = train(trainer, config, context, rows=())
    properties: dict[str, Any] = {}
    if context.is_main:
        stage.watch.write(trainer.rl.notes)
        if config.best_of and stage.held_out:

            def show(done: int, total: int) -> None:
                context.progress("best of n", done, total)

            metrics |= compare_with_best_of_n(
                trainer.collector,
                stage.held_out,
                stage.tasks,
                context.out,
                most=config.best_of,
                on_progress=show,
            )
        policy: Any = trainer.model.policy
        saved, properties = save_trained(policy, stage.tokenizer, stage.source, context.out)
        trainer.model.save_critic(context.out / CRITIC)
        if isinstance(trainer.model, SharedLoraActorCritic):
            # On what the policy is an adapter of too: a later stage begins on another network.
            save_adapter(policy, stage.source, context.out / CRITIC, name=CRITIC, inside=CRITIC)
        metrics |= saved
    return StageResult(
        metrics={**metrics, **stage.metrics},
        properties={"form": stage.form, **properties},
    )


STAGE = Stage(
    config=PpoConfig,
    run=run,
    produces="policy",
    version=4,
    trainer="PPOConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": ADAPTER_LEARNING_RATE},
    data_forms=("prompt",),
    is_distributed=True,
)
