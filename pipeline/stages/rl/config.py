"""What every stage that learns from rewards may be asked, whatever its method."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config.blocks import DataBlock, DataBlocks
from pipeline.config.field_types import OR_ONE, ModelRef, TooLong
from pipeline.config.marks import ABSENT_BY_DEFAULT
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.rollout_engine import RolloutBlock
from pipeline.config.stage_config import WithTemplate
from pipeline.config.tools import WithTools
from pipeline.config.training_stage import TrainingStage
from pipeline.rl.signs import SignName, bounds_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _with_bounds(value: dict[str, Any]) -> dict[str, Any]:
    bounds_of(value)
    return value


StopWhen = Annotated[dict[SignName, Literal[True] | float], AfterValidator(_with_bounds)]


@dataclass(frozen=True)
class RolloutSchedule:
    """How a stage's rollouts are trained on.

    responses: of a rollout. group_size: to each prompt. epochs: passes over a rollout; parts:
    optimizer steps of each. keys: of `training_args`, which say epochs and parts.
    """

    responses: int
    group_size: int
    epochs: int
    parts: int
    keys: tuple[str, str]

    @property
    def steps(self) -> int:
        """Optimizer steps of a rollout."""
        return self.epochs * self.parts


class RolloutStage(WithTools, WithTemplate, TrainingStage):
    """model: the policy to train; as it comes in, it is also the reference.

    prompts: what it is asked; tasks, files or the hub, as `data` elsewhere.
    reward: a list of terms, whose weighted sum is the score of a response; or one.
    reward_normalisation: of the score, by mean and deviation of all rollouts so far (running) or of
    the first (fixed). reward_clip: [low, high], afterwards.
    missing_eos_penalty: for a response that is cut off. eos_penalty_mode: whether it is taken off
    the score (subtract) or put in its place, negated (replace).
    reward_gate: stop where a reward model scores all responses of the first rollout alike. `off`
    also spares reward models the exam, where they have no `licence` of their own.
    gold: also show how good the tasks' authors find the responses; never a reward.
    stop_when: signs of reward hacking that end training, each with the bound from which it does, or
    true for its default: `{length: true, repetition: 0.3}`. The policy is then one from before the
    sign began. Every sign is looked for and told all the same; docs/rl.md says what each is.
    too_long: what becomes of a prompt that leaves no room for a response (of `max_prompt_length` of
    `training_args`; without it what the model has positions for beside `max_completion_length`):
    drop it, truncate it at its beginning, or make it an error.
    best_of: after training, compare with taking the best of 2, 4, ... up to so many responses of
    the reference, by the reward, on prompts that were held out; 0 for not.
    rollout: what samples the responses: our own loop, or a vLLM server.
    tools: what the policy may call while it answers; `max_completion_length` counts what they
    answer too.
    batch_size: responses per optimizer step over all devices.
    """

    best_metric: ClassVar[str] = "objective/scores"

    model: ModelRef
    prompts: DataBlocks
    batch_size: PositiveInt = 64
    reward: Annotated[tuple[RewardBlock, ...], Field(min_length=1), OR_ONE]
    reward_normalisation: Literal["none", "running", "fixed"] = "none"
    reward_clip: Annotated[tuple[float, float], BeforeValidator(_pair)] | None = None
    missing_eos_penalty: NonNegativeFloat | None = None
    eos_penalty_mode: Literal["subtract", "replace"] = "subtract"
    reward_gate: Literal["on", "off"] = "on"
    gold: bool = True
    stop_when: Annotated[StopWhen, ABSENT_BY_DEFAULT] = {}  # noqa: RUF012  pydantic copies it
    too_long: TooLong = "drop"
    best_of: Annotated[int, Field(ge=0, le=1024)] = 16
    rollout: Annotated[RolloutBlock, ABSENT_BY_DEFAULT] = RolloutBlock()

    @model_validator(mode="after")
    def _fits_together(self) -> RolloutStage:
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            low, high = self.reward_clip
            raise ValueError(f"`reward_clip` goes from {low:g} to {high:g}; write [low, high]")
        if self.missing_eos_penalty is None and self.eos_penalty_mode != "subtract":
            raise ValueError("`eos_penalty_mode` says how `missing_eos_penalty` is used; write one")
        if self.best_of == 1:
            raise ValueError("`best_of` 1 is no choice; write 2 or more, or 0 to leave it out")
        if self.precision == "fp16":
            raise ValueError("`precision` fp16 underflows in ratios; write bf16 or fp32")
        return self

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The prompts that it trains on."""
        return self.prompts

    @property
    def asked(self) -> tuple[DataBlock, ...]:
        """The sources whose prompts are answered, in training or beside it."""
        return self.sources

    @property
    def reward_models(self) -> tuple[str, ...]:
        """The reward models among the terms, in their order."""
        models = (model for term in self.reward for model in term.models)
        return tuple(dict.fromkeys(models))

    @abstractmethod
    def schedule(self, arguments: Mapping[str, Any]) -> RolloutSchedule:
        """Return how rollouts are trained on. arguments: `training_args` over the defaults."""

    def trainer_fields(self) -> Mapping[str, Any]:
        """Return the trainer's arguments that are said on the stage, not in `training_args`."""
        return {
            "reward_normalisation": self.reward_normalisation,
            "reward_clip": None if self.reward_clip is None else list(self.reward_clip),
            "missing_eos_penalty": self.missing_eos_penalty,
            "eos_penalty_mode": self.eos_penalty_mode,
            "max_tool_calling_iterations": self.max_turns - 1 if self.tools else None,
            "stop_when": dict(self.stop_when) or None,
        }


class GroupStage(RolloutStage):
    """A stage whose method compares the responses to one prompt with each other."""

    def schedule(self, arguments: Mapping[str, Any]) -> RolloutSchedule:
        """Return how rollouts are trained on. arguments: `training_args` over the defaults."""
        size = arguments.get("generation_batch_size") or self.batch_size
        return RolloutSchedule(
            responses=size,
            group_size=arguments["num_generations"],
            epochs=arguments["num_iterations"],
            parts=max(1, size // self.batch_size),
            keys=("num_iterations", "generation_batch_size"),
        )
