"""Which rows of a rollout one optimizer step trains on, on which process, and how tokens count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.rl import core
from pipeline.rl.sampling_order import deal_rows, rows_of_step

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.experience import Experience


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step.

    rows: [forward pass][process] -> rows of the rollout. weights: (B, T) for the whole rollout, how
    each token's loss counts in the step's sum, 0 outside of it. tokens: that it trains on.
    """

    rows: list[list[list[int]]]
    weights: Tensor
    tokens: int

    @staticmethod
    def choose(
        experience: Experience, args: RolloutConfig, *, rollout: int, epoch: int, mini_batch: int
    ) -> StepRows:
        """Choose and deal out the rows of a mini-batch, alike on every process."""
        chosen = rows_of_step(
            len(experience.prompts),
            args.parts_per_rollout,
            seed=args.seed,
            rollout=rollout,
            epoch=epoch,
            mini_batch=mini_batch,
        )
        mask = experience.mask[chosen]
        has_tokens = mask.any(-1).tolist()
        rows = deal_rows(
            [row for row, is_trained in zip(chosen, has_tokens, strict=True) if is_trained],
            experience.lengths,
            parts=args.gradient_accumulation_steps,
            ranks=args.world_size,
        )
        weights = torch.zeros(experience.mask.shape)
        objective = args.objective
        of_rollout = objective.aggregation == "rollout"
        weights[chosen] = core.token_weights(
            mask,
            aggregation="token" if objective.aggregation == "rollout" else objective.aggregation,
            length=objective.length,
            rows=len(chosen) if objective.counts_empty_rows else None,
            tokens=int(experience.mask.sum()) / args.parts_per_rollout if of_rollout else None,
        )
        return StepRows(rows, weights, int(mask.sum()))

    @property
    def is_empty(self) -> bool:
        """Whether no process has a row: of a rollout with fewer scored rows than steps."""
        return not any(any(part) for part in self.rows)
