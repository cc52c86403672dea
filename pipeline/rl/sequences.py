"""Prompts with their completions as one batch for a forward pass.

Right padded, unlike in generation: a causal model's output at a token does not depend on what
comes after it, so that neither an attention mask nor positions are needed, nothing is spent on
padding before short prompts, and which positions count follows from lengths alone, whatever ids
padding has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """B prompts with completions.

    ids: (B, S), a prompt, its completion, padding. mask: (B, T), True on completion tokens, T the
    longest completion here. predicts: (B, S), True where the output predicts a completion token: N
    in all, in the order of `mask`'s. targets: (N,), these tokens.
    """

    ids: Tensor
    mask: Tensor
    predicts: Tensor
    targets: Tensor

    @staticmethod
    def of(
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        pad: int,
        device: torch.device,
    ) -> Sequences:
        """Put rows of token ids together. No prompt may be empty: its last token predicts."""
        width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        rows = [
            [*prompt, *completion, *[pad] * (width - len(prompt) - len(completion))]
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        ids = torch.tensor(rows, device=device)
        begins = torch.tensor([len(prompt) for prompt in prompts], device=device)[:, None]
        lengths = torch.tensor([len(completion) for completion in completions], device=device)[
            :, None
        ]
        place = torch.arange(width, device=device)[None]
        predicts = (place >= begins - 1) & (place < begins - 1 + lengths)
        is_target = (place >= begins) & (place < begins + lengths)
        longest = max(len(completion) for completion in completions)
        mask = torch.arange(longest, device=device)[None] < lengths
        return Sequences(ids, mask, predicts, ids[is_target])
