"""Weights split over processes by DeepSpeed (ZeRO, Rajbhandari et al. 2020).

Its stages 1 and 2 split moments and gradients, and every process has the weights; stage 3 splits
these too. Its checkpoints are its own.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from pipeline.config.deepspeed import ZERO
from pipeline.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import Trainer

    from pipeline.config.stage import StageContext

# Else stage 3 keeps a published model's weights to itself.
_GATHERS = "stage3_gather_16bit_weights_on_model_save"


def uses_deepspeed(context: StageContext) -> bool:
    """Whether DeepSpeed splits what is trained."""
    return context.sharding is not None and context.sharding.engine == "deepspeed"


def deepspeed_arguments(context: StageContext) -> dict[str, Any]:
    """Return what upstream's arguments need to be told."""
    assert context.sharding is not None
    config = copy.deepcopy(dict(context.sharding.options))
    config[ZERO] = {**config[ZERO], _GATHERS: True}
    return {"deepspeed": config}


def let_deepspeed_split(context: StageContext) -> None:
    """Have Accelerate hand models to DeepSpeed; to be called once the processes have met.

    Accelerate 1.15 forgets the number of processes where they meet over gloo under DeepSpeed, so
    there they have met without it. Models loaded from here on are loaded whole: upstream would
    split them, those too that are measured on one process alone.
    """
    if not uses_deepspeed(context):
        return
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        os.environ["DS_ACCELERATOR"] = "cpu"
        from deepspeed import comm  # pyright: ignore[reportMissingImports]

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)  # pyright: ignore[reportUnknownMemberType]
        state.distributed_type = DistributedType.DEEPSPEED
    unset_hf_deepspeed_config()


def check_split_by_deepspeed(trainer: Trainer, context: StageContext) -> None:
    """Raise InfrastructureError unless DeepSpeed splits as `launch` says; training has begun."""
    assert context.sharding is not None
    engine: Any = getattr(trainer, "deepspeed", None)
    wanted = (context.sharding.options[ZERO]["stage"], context.processes)
    found = (engine.zero_optimization_stage(), engine.dp_world_size) if engine else (0, 1)
    if found != wanted:
        message = (
            f"`launch` asks for stage {wanted[0]} of ZeRO over {wanted[1]} processes; "
            f"it is stage {found[0]} over {found[1]}"
        )
        raise InfrastructureError(context.name, message, "see `posttrain logs`")


def deepspeed_weights(trainer: Trainer) -> Mapping[str, Tensor]:
    """Return all weights by name on the first process; all processes call this."""
    engine: Any = trainer.deepspeed
    return engine._zero3_consolidated_16bit_state_dict()
