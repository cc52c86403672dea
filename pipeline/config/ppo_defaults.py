"""PPO's defaults that depend on the rest of the settings, for recipes and PPOConfig alike."""

from collections.abc import Sequence
from typing import TypeVar

LEARNING_RATE = 3e-6
GROUP_LEARNING_RATE = 1e-6  # TRL's, of GRPO and RLOO
ADAPTER_LEARNING_RATE = 1e-4
# Layouts whose critic has no network of its own.
LAYOUTS_ON_THE_POLICY = ("shared_lora", "shared_trunk")


Model = TypeVar("Model")


def critic_source(
    given: Model | str | None, *, layout: str, is_adapted: bool, reward_models: Sequence[Model]
) -> Model | str:
    """Return what a critic starts from: `policy`, one of the reward models, or what else was given.

    given: `policy`, `reward` for the first reward model, or a model; None for that reward model
    if the critic has its own weights, else for the policy: adapters are trained to save memory, and
    a critic on the policy's network does not need a second one.

    Raises ValueError where a reward model is asked for and there is none.
    """
    if given == "reward" and not reward_models:
        raise ValueError("there is no reward model among the rewards for the critic to start from")
    if given is not None and given != "reward":
        return given
    has_own_weights = not is_adapted and layout not in LAYOUTS_ON_THE_POLICY
    if given == "reward" or (reward_models and has_own_weights):
        return reward_models[0]
    return "policy"
