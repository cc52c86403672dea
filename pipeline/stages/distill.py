"""Stage `distill`: a student learns from a teacher at the tokens it writes itself (pipeline/rl/).

Or on rows with responses, as of a stage `generate`.

Agarwal et al. 2024, "On-policy distillation of language models"; Gu et al. 2024, "MiniLLM". Hard
labels, a teacher's responses as they are, need no stage of their own: `sft` on the rows of a stage
`generate`.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, GROUP_LEARNING_RATE
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.stages.rl.distill_config import DistillStage

# Those of DistillConfig that decide most; its docstring says where they come from.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": GROUP_LEARNING_RATE,
    "lr_scheduler_type": "linear",
    "num_train_epochs": 1,
    "num_generations": 1,
    "num_iterations": 1,
    "beta": 1.0,
    "loss_type": "divergence",
    "loss_top_k": 0,
    "max_completion_length": 512,
}


def run(config: DistillStage, context: StageContext) -> StageResult:
    """Read prompts, load student and teacher, train, save the student."""
    from pipeline.rl.config.distill import DistillConfig
    from pipeline.rl.distill import DistillTrainer
    from pipeline.stages.rl.actors import load_actor
    from pipeline.stages.rl.assembly import assemble
    from pipeline.stages.rl.teaching import load_teacher, measure_distance
    from pipeline.stages.rl.training import train_on_rollouts

    teacher = load_teacher(config, context)
    stage = assemble(
        config, context, STAGE, DistillConfig, DistillTrainer, load_actor, teacher_model=teacher
    )
    before = measure_distance(stage, context)
    result = train_on_rollouts(stage, config, context)
    after = measure_distance(stage, context)
    result.metrics.update({f"{name}_before": value for name, value in before.items()})
    result.metrics.update(after)
    return result


STAGE = Stage(
    config=DistillStage,
    run=run,
    produces="policy",
    version=7,
    trainer="DistillConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": ADAPTER_LEARNING_RATE},
    data_forms=("prompt",),
    measured_forms={"data": ("chat", "prompt_completion")},
    is_distributed=True,
    splits="moments",
)
