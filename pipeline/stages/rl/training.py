"""Trains a stage that was put together, compares with best-of-n, saves policy and critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.stage import StageResult
from pipeline.models.save import save_adapter, save_trained
from pipeline.rewards.spending import with_all_spent
from pipeline.rl.actor_critic import CRITIC
from pipeline.rl.best_of_n import compare_with_best_of_n
from pipeline.rl.gaps import gap_figures
from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
from pipeline.rl.probing import probe_terms
from pipeline.rl.sampling import engine_ended_after
from pipeline.training.loop import train

if TYPE_CHECKING:
    from pipeline.config.stage import StageContext
    from pipeline.stages.rl.assembly import Assembly
    from pipeline.stages.rl.config import RolloutStage


def train_on_rollouts(stage: Assembly, config: RolloutStage, context: StageContext) -> StageResult:
    """Train, compare with best-of-n on held-out prompts, save the policy."""
    with engine_ended_after(stage.trainer.collector.sampler):
        return _train(stage, config, context)


def _train(stage: Assembly, config: RolloutStage, context: StageContext) -> StageResult:
    trainer = stage.trainer
    trainer.splits_moments = context.sharding is not None
    metrics = train(trainer, config, context, rows=())
    properties: dict[str, Any] = {}
    stopped = trainer.go_back()
    if stopped is not None:
        metrics |= stopped.metrics()
        context.say(str(stopped))
    stage.judges.note()
    metrics |= gap_figures(trainer.rl.notes)
    if context.is_main:
        stage.watch.write(trainer.rl.notes)
        if config.best_of and config.reward and stage.held_out:

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
        metrics |= _ask_after_training(stage, context)
        policy: Any = trainer.model.policy
        saved, properties = save_trained(policy, stage.tokenizer, stage.source, context.out)
        metrics |= saved
    return StageResult(
        metrics={**metrics, **stage.metrics},
        properties={
            "form": stage.form,
            **({"stopped": stopped.metrics()} if stopped is not None else {}),
            **properties,
        },
    )


def _ask_after_training(stage: Assembly, context: StageContext) -> dict[str, Any]:
    """Return how worthless responses are rewarded, and what judges were asked in all."""
    trainer = stage.trainer
    notes, prompts = trainer.rl.notes, trainer.prompts
    probes = probe_terms(trainer.collector, prompts, notes, stage.probed)
    exams = stage.metrics.get("licences", {})
    judges = with_all_spent(stage.judges.counts(), context, exams)
    return {**({"probes": probes} if probes else {}), **({"judges": judges} if judges else {})}


def save_critic(stage: Assembly, context: StageContext) -> None:
    """Save the critic beside the policy."""
    actor: Any = stage.trainer.model
    actor.save_critic(context.out / CRITIC)
    if isinstance(actor, SharedLoraActorCritic):
        # On what the policy is an adapter of too: a later stage begins on another network.
        save_adapter(actor.policy, stage.source, context.out / CRITIC, name=CRITIC, inside=CRITIC)
