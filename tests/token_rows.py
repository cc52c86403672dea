"""Numbers of the completion tokens of a batch, as rows: what tests compare by position."""

import torch
from torch import Tensor

from pipeline.rl.sequences import Sequences


def to_rows(sequences: Sequences, flat: Tensor) -> Tensor:
    """Return (N,) numbers of the completion tokens as (B, T), 0 where masked."""
    rows = torch.zeros(sequences.mask.shape, dtype=flat.dtype, device=flat.device)
    return rows.masked_scatter(sequences.mask, flat)
