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
from transformers import modeling_utils
from trl.trainer import utils as upstream

from pipeline.config.deepspeed import ZERO
from pipeline.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import Trainer

    from pipeline.config.stage import StageContext

_gather_all = upstream.maybe_gather_lm_head_ctx  # pyright: ignore[reportPrivateImportUsage]
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
    there they have met without it. Models that are loaded from here on are whole: transformers
    would split them under stage 3, those too that one process alone loads, to measure.
    """
    if not uses_deepspeed(context):
        return
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        os.environ["DS_ACCELERATOR"] = "cpu"
        from deepspeed import comm  # pyright: ignore[reportMissingImports]

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)  # pyright: ignore[reportUnknownMemberType]
        state.distributed_type = DistributedType.DEEPSPEED
    modeling_utils.is_deepspeed_zero3_enabled = _is_never_split  # pyright: ignore[reportPrivateImportUsage]
    upstream.maybe_gather_lm_head_ctx = _gather_what_is_split


def _is_never_split() -> bool:
    return False


def _gather_what_is_split(*parameters: Any) -> AbstractContextManager[Any]:
    """Gather, as TRL does under stage 3, of a head's weights those that are split.

    TRL 1.16 takes every model for split: a reference's log-probabilities are computed before that.
    """
    return _gather_all(*(each for each in parameters if hasattr(each, "ds_status")))


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
