"""PPO's defaults that depend on the rest of the settings, for recipes and PPOConfig alike."""

from typing import Literal

LEARNING_RATE = 3e-6
ADAPTER_LEARNING_RATE = 1e-4
# Layouts whose critic has no network of its own.
LAYOUTS_ON_THE_POLICY = ("shared_lora", "shared_trunk")


def default_critic(
    layout: str, *, is_adapted: bool, has_reward_model: bool
) -> Literal["reward", "policy"]:
    """Return what a critic starts as: the first reward model, if the critic has its own weights.

    Otherwise the policy: adapters are trained to save memory, and a critic on the policy's network
    does not need a second one.
    """
    has_own_weights = not is_adapted and layout not in LAYOUTS_ON_THE_POLICY
    return "reward" if has_reward_model and has_own_weights else "policy"


def default_learning_rate(*, is_adapted: bool) -> float:
    """Return the policy's learning rate; an adapter's few weights need larger steps."""
    return ADAPTER_LEARNING_RATE if is_adapted else LEARNING_RATE
