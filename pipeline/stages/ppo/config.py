"""What a `ppo` stage may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config.blocks import Block, DataBlock, DataBlocks
from pipeline.config.field_types import OR_ONE, ModelRef, TooLong
from pipeline.config.marks import RefersTo
from pipeline.config.ppo_defaults import critic_source
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.stage_config import WithTemplate
from pipeline.config.training_stage import TrainingStage

if TYPE_CHECKING:
    from collections.abc import Mapping

_HORIZON = 10_000.0  # Ziegler et al. 2019


CriticRef = Annotated[
    str, RefersTo(("policy", "reward_model"), words=("reward", "policy")), Field(min_length=1)
]


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


class KlBlock(Block):
    """What keeps the policy close to its reference: coef x KL is taken off the reward.

    coef: fixed without `target`, else where it begins. target: nats a response to steer towards
    (Ziegler et al. 2019, 2.2). horizon: in how many responses.
    estimator: of the KL of a token, from its log-ratio (Schulman 2020).
    """

    coef: NonNegativeFloat = 0.05
    target: PositiveFloat | None = None
    horizon: PositiveFloat = _HORIZON
    estimator: Literal["k1", "k2", "k3"] = "k1"

    @model_validator(mode="after")
    def _adapts(self) -> KlBlock:
        if self.target is None and self.horizon != _HORIZON:
            raise ValueError("`horizon` is for steering towards a `target`; write one")
        if self.target is not None and self.coef == 0:
            raise ValueError("`coef` 0 stays 0 however it is steered; write one above 0")
        return self


class PpoConfig(WithTemplate, TrainingStage):
    """model: the policy to train; as it comes in, it is also the reference.

    prompts: what it is asked; tasks, files or the hub, as `data` elsewhere.
    reward: a list of terms, whose weighted sum is the score of a response; or one.
    critic: what the critic starts from: `reward` (the first reward model), `policy`, a ppo stage's
    critic or one in a folder, a reward model's stage. Without it the first reward model if there is
    one, but the policy with `lora` or where the layout has the critic on the policy's network.
    kl: the penalty for moving away from the reference.
    reward_normalisation: of the score, by mean and deviation of all rollouts so far (running) or of
    the first (fixed). reward_clip: [low, high], afterwards.
    missing_eos_penalty: for a response that is cut off. eos_penalty_mode: whether it is taken off
    the score (subtract) or put in its place, negated (replace).
    reward_gate: stop before training where a reward model does not tell responses apart.
    gold: also show how good the tasks' authors find the responses; never a reward.
    too_long: what becomes of a prompt that leaves no room for a response (of `max_prompt_length` of
    `training_args`; without it what the model has positions for beside `max_completion_length`):
    drop it, truncate it at its beginning, or make it an error.
    best_of: after training, compare with taking the best of 2, 4, ... up to so many responses of
    the reference, by the reward, on prompts that were held out; 0 for not.
    batch_size: responses per optimizer step over all devices; a rollout has `num_mini_batches`
    times as many.
    """

    best_metric: ClassVar[str] = "objective/scores"

    stage: Literal["ppo"]
    model: ModelRef
    prompts: DataBlocks
    batch_size: PositiveInt = 64
    reward: Annotated[tuple[RewardBlock, ...], Field(min_length=1), OR_ONE]
    critic: CriticRef | None = None
    kl: KlBlock = KlBlock()
    reward_normalisation: Literal["none", "running", "fixed"] = "none"
    reward_clip: Annotated[tuple[float, float], BeforeValidator(_pair)] | None = None
    missing_eos_penalty: NonNegativeFloat | None = None
    eos_penalty_mode: Literal["subtract", "replace"] = "subtract"
    reward_gate: Literal["on", "off"] = "on"
    gold: bool = True
    too_long: TooLong = "drop"
    best_of: Annotated[int, Field(ge=0, le=1024)] = 16

    @model_validator(mode="after")
    def _fits_together(self) -> PpoConfig:
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            low, high = self.reward_clip
            raise ValueError(f"`reward_clip` goes from {low:g} to {high:g}; write [low, high]")
        if self.missing_eos_penalty is None and self.eos_penalty_mode != "subtract":
            raise ValueError("`eos_penalty_mode` says how `missing_eos_penalty` is used; write one")
        if self.best_of == 1:
            raise ValueError("`best_of` 1 is no choice; write 2 or more, or 0 to leave it out")
        if self.precision == "fp16":
            raise ValueError("`precision` fp16 underflows in PPO's ratios; write bf16 or fp32")
        return self

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The prompts that it trains on."""
        return self.prompts

    @property
    def reward_models(self) -> tuple[str, ...]:
        """The reward models among the terms, in their order."""
        return tuple(term.model for term in self.reward if term.model is not None)

    @property
    def critic_source(self) -> str:
        """What the critic starts from: `policy` or a reference, of a reward model say.

        Raises ValueError for `reward` without a reward model.
        """
        return critic_source(
            self.critic,
            layout=self.training_args.get("layout", "auto"),
            is_adapted=self.lora is not None,
            reward_models=self.reward_models,
        )

    def trainer_fields(self) -> Mapping[str, Any]:
        """Return the fields of PPOConfig that are said on the stage, not in `training_args`."""
        return {
            "kl_coef": self.kl.coef,
            "kl_target": self.kl.target,
            "kl_horizon": self.kl.horizon,
            "kl_estimator": self.kl.estimator,
            "reward_normalisation": self.reward_normalisation,
            "reward_clip": None if self.reward_clip is None else list(self.reward_clip),
            "missing_eos_penalty": self.missing_eos_penalty,
            "eos_penalty_mode": self.eos_penalty_mode,
        }
