"""What a `distill` stage may be asked, beside what all stages that learn from rewards may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import model_validator

from pipeline.config.blocks import DataBlock, Source  # noqa: TC001  pydantic reads it
from pipeline.config.field_types import OR_ONE, ModelRef
from pipeline.config.reward_terms import RewardBlock  # noqa: TC001  pydantic reads it
from pipeline.stages.rl.config import GroupStage

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_REWARDS = ("reward_normalisation", "reward_clip", "missing_eos_penalty")


class DistillStage(GroupStage):
    """model: the student to train; as it comes in, it is also the reference that KL is measured to.

    teacher: whose distributions it learns: a stage, a folder or a hub model with the student's
    tokens. It is frozen, and asked in `precision`.
    prompts: what it is asked, as elsewhere; either these or `data`.
    data: rows with responses to learn the teacher's distributions on, such as a stage `generate`
    made with the teacher. `lmbda` of `training_args`
    (0 unless it is said) is the share of these rows that the student answers itself.
    reward: terms as elsewhere, earned beside the teacher; without it the teacher alone teaches.
    With it, `num_generations` of `training_args` is 2 or more. It is for `prompts`.
    batch_size: responses per optimizer step over all devices; a rollout has as many, or
    `generation_batch_size` of `training_args`.
    """

    best_metric: ClassVar[str] = "teacher/kl"

    stage: Literal["distill"]
    teacher: ModelRef
    prompts: Annotated[tuple[Source, ...], OR_ONE] = ()
    data: Annotated[tuple[Source, ...], OR_ONE] = ()
    reward: Annotated[tuple[RewardBlock, ...], OR_ONE] = ()

    @model_validator(mode="after")
    def _learns_from_one(self) -> DistillStage:
        if bool(self.prompts) == bool(self.data):
            stated = "both" if self.data else "neither"
            raise ValueError(
                f"a student learns at what it writes to `prompts`, or on rows of `data`; this has "
                f"{stated} of them"
            )
        if self.data and self.reward:
            raise ValueError("`reward` is for responses to `prompts`, and these are of `data`")
        if not self.reward:
            for name in _OF_REWARDS:
                if getattr(self, name) not in (None, "none"):
                    raise ValueError(f"`{name}` is of rewards, and there is no `reward`")
        return self

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The prompts, or the rows, that it trains on."""
        return self.prompts or self.data

    @property
    def asked(self) -> tuple[DataBlock, ...]:
        """The sources whose prompts are answered, in training or beside it."""
        return self.prompts or tuple(block.model_copy(update={"form": None}) for block in self.data)

    def trainer_fields(self) -> Mapping[str, Any]:
        """Return the trainer's arguments that are said on the stage, not in `training_args`."""
        of_data = {"lmbda": self.training_args.get("lmbda", 0.0)} if self.data else {}
        return {**super().trainer_fields(), **of_data}
