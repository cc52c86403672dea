"""What a stage failed of that the user can mend: memory ran out, or a disk refused."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

from pipeline.config.batch import split_batch
from pipeline.config.training_args import with_new_names
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.files.disk_errors import disk_failure
from pipeline.run.worker_environment import num_processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.stage import StageContext
    from pipeline.config.stage_config import StageConfig

# How allocators without an exception class of their own say it: torch's on the CPU, CUDA's, MPS's.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def resource_failure(
    error: Exception,
    context: StageContext,
    config: StageConfig,
    defaults: Mapping[str, Any],
    place: str,
) -> InfrastructureError | None:
    """Return what to tell the user where memory ran out or a disk refused; else None.

    place: how far the stage was. The traceback goes into the stage's log.
    """
    logger = logging.getLogger(__name__)
    if _is_out_of_memory(error):
        logger.error("memory ran out at %s", place, exc_info=error)
        message = f"memory ran out at {place}"
        return InfrastructureError(context.name, message, _memory_advice(config, defaults))
    failure = disk_failure(error, context.name, folder=str(context.out))
    if failure is None or isinstance(error, PosttrainError):
        return None
    logger.error("a disk refused at %s", place, exc_info=error)
    path = "" if failure.where == context.name else f" ({failure.where})"
    message = f"{failure.message} at {place}{path}"
    return InfrastructureError(context.name, message, failure.hint)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, even where a stage made another error of it."""
    import torch

    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def _memory_advice(config: StageConfig, defaults: Mapping[str, Any]) -> str:
    """Return what takes less memory, the cheapest first, without what is done already."""
    if not isinstance(config, TrainingStage):
        batch_size = getattr(config, "batch_size", None)
        has_batches = isinstance(batch_size, int) and batch_size > 1
        return f"lower `batch_size` ({batch_size} now)" if has_batches else "give it less data"
    arguments = {**defaults, **with_new_names(config.training_args)}
    advice: list[str] = []
    try:
        per_device, _ = split_batch(
            config.batch_size,
            per_device=arguments.get("per_device_train_batch_size"),
            world_size=num_processes(),
        )
    except ValueError:  # memory ran out before the stage looked at its arguments
        per_device = config.batch_size
    if per_device > 1:
        advice.append(
            f"lower `training_args.per_device_train_batch_size` ({per_device} now; the mathematics "
            "stay those of `batch_size`)"
        )
    if not arguments.get("activation_checkpointing"):
        advice.append("set `training_args.activation_checkpointing: true`")
    advice.append(f"shorten `{_length_setting(config)}`")
    if config.lora is None and isinstance(getattr(config, "model", None), str):
        advice.append("train an adapter with `lora:`")
    return ", or ".join(advice)


def _length_setting(config: TrainingStage) -> str:
    """Return which setting bounds the length of the sequences that a stage trains on."""
    fields = type(config).model_fields
    if "sequence_length" in fields:
        return "sequence_length"
    return f"training_args.{'max_completion_length' if 'prompts' in fields else 'max_length'}"
