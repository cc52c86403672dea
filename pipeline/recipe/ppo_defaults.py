"""What PPO does where neither a recipe nor a PPOConfig says: rules that both have in common."""

from typing import Literal

# Layouts whose critic has no network of its own.
LAYOUTS_ON_THE_POLICY = ("shared_lora", "shared_trunk")


def default_critic(
    layout: str, *, is_adapted: bool, has_reward_model: bool
) -> Literal["reward", "policy"]:
    """Return what a critic begins as: the first reward model where it has weights of its own.

    An adapter is trained to spare memory, and with the policy's network the critic needs no other.
    """
    has_own_weights = not is_adapted and layout not in LAYOUTS_ON_THE_POLICY
    return "reward" if has_reward_model and has_own_weights else "policy"
