"""What a `ppo` stage may be asked, beside what all stages that learn from rewards may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from pipeline.config.blocks import Block
from pipeline.config.marks import RefersTo
from pipeline.config.ppo_defaults import critic_source
from pipeline.stages.rl.config import RolloutSchedule, RolloutStage

if TYPE_CHECKING:
    from collections.abc import Mapping

_HORIZON = 10_000.0  # Ziegler et al. 2019

CriticRef = Annotated[
    str, RefersTo(("policy", "reward_model"), words=("reward", "policy")), Field(min_length=1)
]


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


class PpoConfig(RolloutStage):
    """model: the policy to train; as it comes in, it is also the reference.

    critic: what the critic starts from: `reward` (the first reward model), `policy`, a ppo stage's
    critic or one in a folder, a reward model's stage. Without it the first reward model if there is
    one, but the policy with `lora` or where the layout has the critic on the policy's network.
    kl: the penalty for moving away from the reference.
    batch_size: responses per optimizer step over all devices; a rollout has `num_mini_batches`
    times as many.
    """

    stage: Literal["ppo"]
    critic: CriticRef | None = None
    kl: KlBlock = KlBlock()

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

    def schedule(self, arguments: Mapping[str, Any]) -> RolloutSchedule:
        """Return how rollouts are trained on. arguments: `training_args` over the defaults."""
        parts = arguments["num_mini_batches"]
        return RolloutSchedule(
            responses=self.batch_size * parts,
            group_size=1,
            epochs=arguments["num_ppo_epochs"],
            parts=parts,
            keys=("num_ppo_epochs", "num_mini_batches"),
        )

    def trainer_fields(self) -> Mapping[str, Any]:
        """Return the trainer's arguments that are said on the stage, not in `training_args`."""
        return {
            **super().trainer_fields(),
            "kl_coef": self.kl.coef,
            "kl_target": self.kl.target,
            "kl_horizon": self.kl.horizon,
            "kl_estimator": self.kl.estimator,
        }
