"""What the optimizer trains: policy and critic, each with a learning rate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, LEARNING_RATE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import torch
    from torch import nn

    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig

_ADAPTER, _HEAD = ".lora_", "value_head."  # in names of parameters
_WHOLE_TO_ADAPTER = LEARNING_RATE / ADAPTER_LEARNING_RATE


def parameter_groups(
    actor: Actor, args: RolloutConfig, decaying: Collection[str]
) -> list[dict[str, Any]]:
    """Return policy and critic, those whose weights decay apart; the policy's come first.

    decaying: names of what upstream lets decay, not norms and biases; the value head never does.
    """
    names = {id(weight): name for name, weight in actor.named_parameters()}

    def may_decay(weight: nn.Parameter) -> bool:
        name = names[id(weight)]
        return name in decaying and not name.startswith(_HEAD)

    groups: list[dict[str, Any]] = []
    for parameters, own_rate in (
        (actor.policy_parameters(), args.learning_rate),
        (actor.critic_parameters(), _critic_learning_rate(actor, args, names)),
    ):
        for decays in (True, False):
            chosen = [weight for weight in parameters if may_decay(weight) == decays]
            decay = args.weight_decay if decays else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "lr": own_rate})
    return [group for group in groups if group["params"]]


def _critic_learning_rate(actor: Actor, args: RolloutConfig, names: Mapping[int, str]) -> float:
    """Return the critic's rate: as given, else the policy's.

    Where that is an adapter's and the critic is a whole network, less by what the defaults differ.
    """
    own = args.critic_rate
    if own is not None:
        return own
    policy = [names[id(weight)] for weight in actor.policy_parameters()]
    critic = [names[id(weight)] for weight in actor.critic_parameters()]
    is_adapted = any(_ADAPTER in name for name in policy)
    is_whole = any(_ADAPTER not in name and not name.startswith(_HEAD) for name in critic)
    assert args.learning_rate is not None
    return args.learning_rate * (_WHOLE_TO_ADAPTER if is_adapted and is_whole else 1)


def check_trains(optimizer: torch.optim.Optimizer | None, actor: Actor) -> None:
    """Raise ValueError for an optimizer of the caller's that leaves out what should be trained.

    One made of a model's parameters does not have the critic's, nor those of a new adapter.
    """
    if optimizer is None:  # the trainer makes it itself
        return
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    for whose, parameters in (
        ("policy", actor.policy_parameters()),
        ("critic", actor.critic_parameters()),
    ):
        left = [weight for weight in parameters if id(weight) not in held]
        if left:
            raise ValueError(
                f"the optimizer has {len(parameters) - len(left)} of the {len(parameters)} tensors "
                f"of the {whose}, so the others would not be trained; give "
                "`optimizer_cls_and_kwargs=(class, {...})`, or make an Actor first and the "
                "optimizer of its parameters"
            )
