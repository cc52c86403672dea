"""Weights split over processes (FSDP2): that they are, and how they become one model again.

Each process keeps a part of every tensor (Zhao et al. 2023), so nothing that reads weights may run
on the first process alone. What is measured and published after training is a plain copy of the
model there, made of what all processes sent.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from pipeline.errors import InfrastructureError
from pipeline.training.zero import (
    check_split_by_deepspeed,
    deepspeed_arguments,
    deepspeed_weights,
    let_deepspeed_split,
    uses_deepspeed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from transformers import Trainer

    from pipeline.config.stage import StageContext


def splits_weights(context: StageContext) -> bool:
    """Whether each process is to keep a part of the weights."""
    return context.sharding is not None and context.sharding.split == "weights"


def sharding_arguments(context: StageContext) -> dict[str, Any]:
    """Return what upstream's arguments need to be told, {} where each process has the model.

    Without an accelerator weights lie where they would be offloaded to, and cannot be pinned.
    """
    if uses_deepspeed(context):
        return deepspeed_arguments(context)
    if not splits_weights(context):
        return {}
    assert context.sharding is not None
    options = dict(context.sharding.options)
    if not torch.accelerator.is_available():
        options.pop("cpu_offload", None)
    return {"fsdp": True, "fsdp_config": options}


def let_processors_shard(context: StageContext) -> None:
    """Have Accelerate split weights where processes meet over gloo.

    Accelerate 1.15 looks for FSDP where it sees several GPUs only; elsewhere every process trains
    the whole model, without a word. To be called once the processes have met.
    """
    if uses_deepspeed(context):
        let_deepspeed_split(context)
        return
    state = PartialState()
    if splits_weights(context) and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


def check_sharded(trainer: Trainer, context: StageContext) -> None:
    """Raise InfrastructureError unless weights are split as `launch` says, or whole if it does not.

    trainer: about to train.
    """
    if uses_deepspeed(context):
        check_split_by_deepspeed(trainer, context)
        return
    module: Any = trainer.model
    wanted = context.processes if splits_weights(context) else 1
    for name, parameter in module.named_parameters():
        found = parameter.device_mesh.size() if isinstance(parameter, DTensor) else 1
        if found != wanted:
            message = (
                f"`launch` asks for weights split over {wanted} processes; {name} is over {found}"
            )
            hint = "see `posttrain logs`; with `launch` without `fsdp` none are split"
            raise InfrastructureError(context.name, message, hint)


def is_split(module: nn.Module) -> bool:
    """Whether any of its weights are split over processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor that is split over processes as a whole one; all processes call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Gathering:
    """Makes a plain model of one that training splits: begun before that, ended on all processes.

    What a network keeps beside its weights is taken from the plain model, its shape too, and none
    of its weights: on the first process they are there once, after the end.
    """

    def __init__(self, trainer: Trainer, context: StageContext) -> None:
        self._trainer = trainer
        self._is_by_deepspeed = uses_deepspeed(context)
        self._frame = _frame_of(trainer.model) if context.is_main else None  # pyright: ignore[reportArgumentType]

    def finish(self) -> None:
        """Give the trainer on the first process a plain model with the weights of all processes."""
        module: Any = self._trainer.model
        if self._is_by_deepspeed:
            weights: Any = deepspeed_weights(self._trainer)
        elif is_split(module):
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(module, options=options)  # {} but on the first
        else:  # a finished checkpoint was read, and nothing trained
            return
        if self._frame is not None:
            _fill(self._frame, weights)
            self._frame.train(module.training)
            self._trainer.model = self._frame  # pyright: ignore[reportAttributeAccessIssue]


def _frame_of(module: nn.Module) -> nn.Module:
    """Return a copy of a module without memory for its parameters; tied ones stay tied."""
    without = {
        id(parameter): Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        for parameter in module.parameters()
    }
    frame = copy.deepcopy(module, without)
    for each in frame.modules():
        vars(each).pop("forward", None)  # upstream's own, which would call the module copied from
    return frame


def _fill(frame: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights, by name, in the place of a frame's parameters and buffers."""
    made: dict[int, Parameter] = {}
    for place, module in frame.named_modules():
        prefix = f"{place}." if place else ""
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:
                tensor = weights[prefix + name]
                made[id(parameter)] = Parameter(tensor, requires_grad=parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            if prefix + name in weights:
                buffer.copy_(weights[prefix + name])
