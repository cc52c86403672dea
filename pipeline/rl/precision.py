"""Which precision each weight of PPO is kept in: what trains in fp32, what is frozen as multiplied.

Not the precision that is computed in: pipeline/training/precision.py.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model

from pipeline.models.frozen import keep_frozen
from pipeline.training.precision import dtype_of

if TYPE_CHECKING:
    from torch import nn

    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig

_HALF = (torch.bfloat16, torch.float16)


def keep_masters(module: nn.Module, what: str) -> None:
    """Put what is trained of a network into fp32, in place, and warn where it was not.

    bf16 has 8 bits: to add 3e-6 to a weight of 0.02 changes nothing, and most weights would stay
    where they are. Below an adapter the frozen network stays what it is. what: its name.
    """
    halves = {weight.dtype for weight in module.parameters() if weight.requires_grad} & {*_HALF}
    if not halves:
        return
    if is_peft_model(module):
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    else:
        module.float()
    came_in = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves))
    warnings.warn(
        f"the {what} came in {came_in}: its trained "
        "weights are kept and saved in float32, since steps of PPO's size are less than they can "
        "tell; `bf16=True` computes in bf16",
        stacklevel=2,
    )


def keep_as_multiplied(actor: Actor, args: RolloutConfig) -> None:
    """Put frozen projections into the precision of training, in place: reference, adapters' base.

    Not where an adapter is made of the weights below it, as DoRA's is.
    """
    dtype = dtype_of(args)
    configs: Any = getattr(actor.policy, "peft_config", {})
    if dtype is not None and not any(_reads_weights(config) for config in configs.values()):
        keep_frozen(actor, dtype)


def _reads_weights(config: Any) -> bool:
    return bool(config.use_dora or config.trainable_token_indices or config.target_parameters)
