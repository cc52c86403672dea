"""TRL's fused loss head, told to score the trained tokens alone on a CPU too.

The head has both ways in it. Where there is no Triton it scores every position, prompts and padding
among them, since on some accelerators another number of tokens compiles the kernel anew; nothing
is compiled on a CPU. The trained tokens' log-probabilities are the same either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trl.trainer import utils as upstream

if TYPE_CHECKING:
    import torch

_has_triton = upstream._use_triton  # pyright: ignore[reportPrivateImportUsage]


def _is_compact(device: torch.device) -> bool:
    return device.type == "cpu" or _has_triton(device)


def score_trained_tokens_alone() -> None:
    """Have models that TRL gives a fused head from now on leave out what carries no loss."""
    upstream._use_triton = _is_compact  # pyright: ignore[reportPrivateImportUsage]
