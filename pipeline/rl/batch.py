"""Batch: rows of a rollout as one forward pass of training takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.rl.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from pipeline.rl.experience import Experience
    from pipeline.rl.step_rows import StepRows


@dataclass(frozen=True)
class Batch:
    """Rows of a rollout for one forward pass: N completion tokens, (N,) each.

    weights: what each token's loss is multiplied by; they add up to 1 over an optimizer step.
    token_share: of one token among all of the step. rows: the row of each token here.
    """

    sequences: Sequences
    weights: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    token_share: float
    rows: Tensor

    @staticmethod
    def of(
        experience: Experience,
        step: StepRows,
        rows: Sequence[int],
        *,
        pad: int,
        device: torch.device,
    ) -> Batch:
        """Take rows out of a rollout, of which an optimizer step trains on `step`."""
        sequences = Sequences.of(
            [experience.prompts[row] for row in rows],
            [experience.completions[row] for row in rows],
            pad=pad,
            device=device,
            own=[experience.own_tokens(row) for row in rows],
        )
        chosen = list(rows)
        mask = experience.mask[chosen]  # (b, T), of which N are True, in the order of `targets`

        def flat(values: Tensor) -> Tensor:
            return values[chosen][mask].to(device)

        return Batch(
            sequences,
            flat(step.weights),
            flat(experience.logprobs),
            flat(experience.reference),
            flat(experience.values),
            flat(experience.advantages),
            flat(experience.returns),
            1 / max(step.tokens, 1),
            mask.nonzero()[:, 0].to(device),
        )
