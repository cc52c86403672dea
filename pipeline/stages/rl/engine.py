"""The engine that a stage's `rollout:` block names, as its trainer is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.models.load import base_of
from pipeline.rl.gaps import Gaps

if TYPE_CHECKING:
    from pipeline.config.stage import StageContext
    from pipeline.stages.rl.config import RolloutStage


def engine_fields(config: RolloutStage, context: StageContext) -> dict[str, Any]:
    """Return the trainer's arguments that say what samples, paths from the recipe resolved.

    Raises PosttrainError for a server that cannot have the policy as it comes in.
    """
    block = config.rollout
    options = block.options()
    for name in ("python", "folder"):
        if name in options:
            options[name] = str(context.places.file(options[name]).absolute())
    is_adapter = base_of(context.model(config.model)) is not None
    if block.url is not None and is_adapter and config.lora is not None:
        message = f"`{config.model}` is an adapter, and a server of `url` cannot have it merged"
        hint = "put a `stage: merge` before and serve that, or have posttrain start the server"
        raise PosttrainError(context.name, message, hint)
    return {"rollout_engine": block.engine, "vllm_options": options or None}


def gaps_of(config: RolloutStage, context: StageContext) -> Gaps | None:
    """Return what looks at the gaps of log-probabilities; None for engines of this process."""
    if config.rollout.engine != "vllm":
        return None
    bound = config.rollout.gap_bound(is_bf16=config.precision == "bf16")
    return Gaps(bound, context.say)
