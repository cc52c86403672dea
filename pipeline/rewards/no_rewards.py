"""What stands in place of rewards where there are none, as where only a teacher is learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline.rewards.composition import Combined, RewardComposition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor
    from transformers import TrainerState

    from pipeline.rewards.responses import Logged, Responses


class NoRewards(RewardComposition):
    """No terms: every response scores 0, so that none is left out, and no metric says so."""

    def __init__(self) -> None:
        super().__init__((), may_be_empty=True)

    def raw(self, responses: Responses, state: TrainerState | None = None) -> Tensor:
        """Return (b, 0)."""
        return torch.zeros(len(responses), 0, dtype=torch.float64)

    def weigh(self, raw: Tensor) -> Tensor:
        """Return 0 for each response, (B,)."""
        return torch.zeros(len(raw), dtype=torch.float64)

    def combine(
        self,
        raw: Tensor,
        has_eos: Tensor,
        logged: Iterable[Logged] = (),
        *,
        sources: Sequence[str | None] | None = None,
    ) -> Combined:
        """Return 0 for each response, and no metrics."""
        return Combined(self.weigh(raw), {})
