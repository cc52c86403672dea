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

    ids: (B, S), a prompt, its completion, padding. mask: (B, T), True on the policy's tokens, T the
    longest completion here. predicts: (B, S), True where the output predicts one of them: N in all,
    in the order of `mask`'s. targets: (N,), these tokens. last: (B,), the place of the last token.
    """

    ids: Tensor
    mask: Tensor
    predicts: Tensor
    targets: Tensor
    last: Tensor

    @staticmethod
    def of(
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        pad: int,
        device: torch.device,
        own: Sequence[Sequence[bool] | None] | None = None,
    ) -> Sequences:
        """Put rows of token ids together. No prompt may be empty: its last token predicts.

        own: which tokens of each completion are the policy's; None for all. The others, a tool's
        answers, are read and not predicted.
        """
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
        for row, flags in enumerate(own or ()):
            if flags is not None:
                mask[row, : len(flags)] = torch.tensor(flags, dtype=torch.bool, device=device)
                is_target[row, len(prompts[row]) :][: len(flags)] = mask[row, : len(flags)]
                predicts[row, len(prompts[row]) - 1 :][: len(flags)] = mask[row, : len(flags)]
        return Sequences(ids, mask, predicts, ids[is_target], (begins + lengths - 1).squeeze(-1))

    def first_read(self) -> Tensor:
        """Return the first place of each row whose output is read: it predicts, or is the last."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        return torch.where(self.predicts, place, self.last[:, None]).amin(1)

    def rows(self, part: slice) -> Sequences:
        """Return some of the rows, without the padding behind their longest."""
        last = self.last[part]
        width = int(last.max()) + 1
        before = int(self.mask[: part.start].sum()) if part.start else 0
        mask = self.mask[part]
        targets = self.targets[before : before + int(mask.sum())]
        return Sequences(self.ids[part, :width], mask, self.predicts[part, :width], targets, last)
