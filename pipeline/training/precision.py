"""The precision of training: weights stay fp32, products are bf16 or fp16 (autocast)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from transformers import TrainingArguments

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(args: TrainingArguments) -> torch.dtype | None:
    """Return the dtype of a trainer's products; None for fp32."""
    return _DTYPES.get(args.mixed_precision)


def autocast_of(args: TrainingArguments) -> Callable[[], AbstractContextManager[Any]]:
    """Return a function that makes the autocast context of a trainer's networks.

    Accelerate puts it around the `forward` of the model that it prepares, and transformers'
    `compute_loss_context_manager` is empty: a trainer that runs parts of a model by their own names
    computes in fp32, whatever its arguments say, unless it enters this.
    """
    dtype = dtype_of(args)
    kind = args.device.type

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None)

    return autocast
