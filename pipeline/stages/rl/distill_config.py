"""What a `distill` stage may be asked, beside what all stages that learn from rewards may be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from pipeline.config.field_types import OR_ONE, ModelRef
from pipeline.config.reward_terms import RewardBlock  # noqa: TC001  pydantic reads it
from pipeline.stages.rl.config import GroupStage

_OF_REWARDS = ("reward_normalisation", "reward_clip", "missing_eos_penalty")


class DistillStage(GroupStage):
    """model: the student to train; as it comes in, it is also the reference that KL is measured to.

    teacher: whose distributions it learns: a stage, a folder or a hub model with the student's
    tokens. It is frozen, and asked in `precision`.
    reward: terms as elsewhere, earned beside the teacher; without it the teacher alone teaches.
    With it `num_generations` of `training_args` is 2 or more.
    batch_size: responses per optimizer step over all devices; a rollout has as many, or
    `generation_batch_size` of `training_args`.
    """

    best_metric: ClassVar[str] = "teacher/kl"

    stage: Literal["distill"]
    teacher: ModelRef
    reward: Annotated[tuple[RewardBlock, ...], OR_ONE] = ()

    @model_validator(mode="after")
    def _is_rewarded(self) -> DistillStage:
        if not self.reward:
            for name in _OF_REWARDS:
                if getattr(self, name) not in (None, "none"):
                    raise ValueError(f"`{name}` is of rewards, and there is no `reward`")
        return self
