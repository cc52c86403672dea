"""Pre-training as one would write it by hand, with nothing around it: what a stage is measured by.

The mathematics is the stage's: fused AdamW with decay on matrices only, linear warm-up and cosine,
gradients clipped to norm 1, float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.data.encoding.packing import PackedRows

LEARNING_RATE = 3e-3
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.1
_WARMUP_SHARE = 0.05
_LARGEST_NORM = 1.0


class BareLoop:
    """Trains the module in place, a step at each call; losses: of each step so far."""

    def __init__(
        self, module: PreTrainedModel, rows: PackedRows, *, num_steps: int, batch_size: int
    ) -> None:
        self._module = module.train()
        self._rows = rows
        self._batch_size = batch_size
        parameters = list(module.parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=LEARNING_RATE,
            betas=_BETAS,
            fused=True,
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: learning_rate_factor(step, num_steps)
        )
        self.losses: list[float] = []

    def step(self) -> None:
        """Make one optimizer step on the next rows."""
        # With a key-value cache the documents of a row would see each other.
        loss = self._module(**self._batch(len(self.losses)), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), _LARGEST_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        self.losses.append(loss.item())

    def _batch(self, number: int) -> dict[str, torch.Tensor]:
        first, rows = number * self._batch_size, self._rows.dataset()
        chosen = [rows[row] for row in range(first, min(first + self._batch_size, len(rows)))]
        device = self._module.device
        names = ("input_ids", "position_ids", "labels")
        return {name: torch.stack([row[name] for row in chosen]).to(device) for name in names}


def learning_rate_factor(step: int, num_steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine down to 0."""
    warmup_steps = math.ceil(num_steps * _WARMUP_SHARE)
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))
