"""Whether a sign that is to stop a training can show in it, which is known before it runs.

What the signs are: pipeline/rl/signs.py; that they have a bound which can be meant is checked where
`stop_when` is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.errors import PosttrainError
    from pipeline.recipe.messages import Location
    from pipeline.rl.signs import SignName
    from pipeline.stages.rl.config import RolloutStage

    Refuse = Callable[[Location, str, str], PosttrainError]  # place, what is wrong, what to do

_OF_REWARDS: tuple[SignName, ...] = ("score_jump", "over_optimised")


def check_signs(config: RolloutStage, refuse: Refuse) -> None:
    """Raise what `refuse` makes of a sign that could never show, and of where it stands."""
    arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
    schedule = config.schedule(arguments)
    for name in config.stop_when:
        place: Location = ("stop_when", name)
        if name in _OF_REWARDS and not any(term.weight for term in config.reward):
            raise refuse(
                place, f"`{name}` is told by the reward, and there is none", "leave it out"
            )
        if name == "over_optimised" and not _is_held_out(config):
            message = "nothing tells whether responses become worse: no prompts of a task with"
            message += " `gold: true`, and no reward of weight 0"
            hint = "add `{model: ANOTHER, weight: 0}` to `reward`, or leave it out"
            raise refuse(place, message, hint)
        if name == "distinct" and schedule.group_size < 2:
            message = "`distinct` compares the responses to one prompt, and each is answered once"
            raise refuse(place, message, "leave it out")
        if name == "equal_answers" and schedule.responses <= schedule.group_size:
            message = "`equal_answers` compares prompts, and a rollout has one only"
            raise refuse(place, message, "leave it out, or raise `batch_size`")


def _is_held_out(config: RolloutStage) -> bool:
    has_gold = config.gold and any(block.task is not None for block in config.asked)
    return has_gold or any(term.weight == 0 for term in config.reward)
