"""Which rows of a rollout one optimizer step trains on, on which process, and how tokens count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.rl import core
from pipeline.rl.sampling_order import deal_rows, rows_of_step

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.rl.config import PPOConfig
    from pipeline.rl.experience import Experience


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step.

    rows: [forward pass][process] -> rows of the rollout. weights: (B, T) for the whole rollout, how
    each token's loss counts in the step's sum, 0 outside of it.
    """

    rows: list[list[list[int]]]
    weights: Tensor

    @staticmethod
    def choose(
        experience: Experience, args: PPOConfig, *, rollout: int, epoch: int, mini_batch: int
    ) -> StepRows:
        """Choose and deal out the rows of a mini-batch, alike on every process."""
        chosen = rows_of_step(
            len(experience.prompts),
            args.num_mini_batches,
            seed=args.seed,
            rollout=rollout,
            epoch=epoch,
            mini_batch=mini_batch,
        )
        rows = deal_rows(
            chosen,
            experience.lengths,
            parts=args.gradient_accumulation_steps,
            ranks=args.world_size,
        )
        weights = torch.zeros(experience.mask.shape)
        weights[chosen] = core.token_weights(
            experience.mask[chosen],
            aggregation=args.loss_aggregation,  # pyright: ignore[reportArgumentType]
        )
        return StepRows(rows, weights)

    @property
    def is_empty(self) -> bool:
        """Whether no process has a row: of a rollout with fewer scored rows than steps."""
        return not any(any(part) for part in self.rows)
