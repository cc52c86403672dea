"""Where a recipe will not get quite what it asks for: `plan`, `check` and `run` say so.

Known without torch, data or a model. What is impossible is refused elsewhere (recipe/checks).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pipeline.config.licence import OFF
from pipeline.config.training_args import EXECUTION_KEYS
from pipeline.config.training_stage import TrainingStage
from pipeline.machine import num_gpus
from pipeline.recipe.checks.licences import judge_blocks, reward_terms
from pipeline.rl.signs import FIRST_SEEN
from pipeline.stages import stage_of
from pipeline.stages.rl.config import RolloutStage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.config.blocks import LaunchBlock
    from pipeline.config.stage_config import StageConfig
    from pipeline.stages.rl.config import RolloutSchedule

_NOT_SAID = "not set"


def remarks(config: StageConfig) -> Iterator[str]:
    """Yield a sentence for whatever a stage does differently from what its settings suggest."""
    for _, term in reward_terms(config):
        if term.licence == OFF:
            yield f"`{term.label}` takes no exam (`licence: off`), and the report will say so"
    for _, judge in judge_blocks(config):
        if judge.licence == OFF:
            yield f"`{judge.label}` takes no exam (`licence: off`), and the report will say so"
    if not isinstance(config, TrainingStage):
        return
    arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
    # Our own default needs no remark: the last step of a shorter training is logged anyway.
    every, steps = config.training_args.get("logging_steps"), arguments.get("max_steps", -1)
    if isinstance(every, int) and isinstance(steps, int) and 0 < steps < every:
        yield f"`logging_steps` {every} is beyond `max_steps` {steps}: only the last step is logged"
    if config.lora is not None and config.lora.load_in_4bit and not num_gpus(os.environ):
        yield "`load_in_4bit` saves memory and costs time, most of it on a CPU, as here"
    if isinstance(config, RolloutStage):
        yield from _of_rollouts(config, arguments)


def describe_changed_execution(
    config: StageConfig, launch: LaunchBlock, before: Mapping[str, Any]
) -> list[str]:
    """Return which settings beside its identity a stage ran with that the recipe now has changed.

    before: `execution` in its provenance.
    """
    if "training_args" not in before:  # it was adopted
        return []
    defaults = {"report_to": "none", **stage_of(config.stage).defaults(config)}
    now: Mapping[str, Any] = getattr(config, "training_args", {})
    then: Mapping[str, Any] = before["training_args"]
    changed: list[str] = []
    for key in sorted(EXECUTION_KEYS & {*now, *then}):
        values = [arguments.get(key, defaults.get(key, _NOT_SAID)) for arguments in (now, then)]
        if values[0] != values[1]:
            told = _name_new_trackers(*values) if key == "report_to" else ""
            changed.append(f"`{key}` is now {values[0]}, was {values[1]}{told}")
    launched = before.get("launch", {}).get("with")
    launcher = launch.in_its_job.launcher
    if config.launch is not None and launched not in (None, launcher):
        changed.append(f"`launch` is now {launcher}, was {launched}")
    return changed


def _name_new_trackers(now: Any, then: Any) -> str:
    """Return the trackers that missed a stage, since it ran before the recipe named them."""
    named = [
        {trackers} if isinstance(trackers, str) else set(trackers or ()) for trackers in (now, then)
    ]
    new = sorted(named[0] - named[1] - {"none"})
    return f", so nothing was logged to {' and '.join(new)}" if new else ""


def _of_rollouts(config: RolloutStage, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what becomes of steps or episodes that are not a whole number of rollouts."""
    schedule = config.schedule(arguments)
    yield from _of_signs(config, arguments, schedule)
    per_rollout, responses = schedule.steps, schedule.responses
    steps, episodes = arguments.get("max_steps", -1), arguments.get("total_episodes")
    if steps > 0 and steps % per_rollout:
        yield (
            f"`max_steps` {steps} ends within a rollout, after {steps % per_rollout} of its "
            f"{per_rollout} steps ({' x '.join(schedule.keys)})"
        )
    elif steps <= 0 and episodes and episodes % responses:
        whole = -(-episodes // responses) * responses
        yield f"`total_episodes` {episodes} becomes {whole}: a rollout has {responses} responses"


def _of_signs(
    config: RolloutStage, arguments: Mapping[str, Any], schedule: RolloutSchedule
) -> Iterator[str]:
    """Yield which signs a training is too short to be stopped by."""
    steps, episodes = arguments.get("max_steps", -1), arguments.get("total_episodes")
    if steps <= 0 and not episodes:
        return  # the prompts are not counted yet
    rollouts = steps // schedule.steps if steps > 0 else -(-(episodes or 0) // schedule.responses)
    for name in config.stop_when:
        if rollouts < FIRST_SEEN[name]:
            yield (
                f"`{name}` of `stop_when` shows in rollout {FIRST_SEEN[name]} at the earliest, and "
                f"there are {rollouts}"
            )
