"""How far another engine's log-probabilities are from the trainer's, of the same tokens.

They come from other kernels, and in few bits differ by more than rounding of the last one. Large
gaps mean another model: a policy that was not sent, a server in another precision. What small ones
do to the loss, weights correct (core/ratios.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.rl.rollout import ScoredRow

_LOG = logging.getLogger(__name__)
LARGEST, MEAN = "engine/logp_gap", "engine/logp_gap_mean"
_NOTE = "gaps"


@dataclass
class Gaps:
    """Looks at each rollout's gaps, in nats a token, and warns of the first above a bound.

    bound: above which a warning is said. say: shows a line on the terminal.
    """

    bound: float
    say: Callable[[str], None]
    _has_warned: bool = field(default=False, init=False)

    def look(
        self, rows: Sequence[ScoredRow], number: int, notes: dict[str, Any]
    ) -> dict[str, float]:
        """Return a rollout's largest and mean gap as metrics. notes: that checkpoints keep."""
        gaps = [
            (row.sampled - row.logprobs)[row.own & ~row.sampled.isnan()].abs()
            for row in rows
            if row.sampled is not None
        ]
        every = torch.cat([torch.empty(0), *gaps])
        if not len(every):
            return {}
        largest, mean = float(every.max()), float(every.double().mean())
        kept = notes.setdefault(_NOTE, {"largest": 0.0, "means": []})
        kept["largest"] = max(kept["largest"], largest)
        kept["means"].append(mean)
        if largest > self.bound and not self._has_warned:
            self._has_warned = True
            line = (
                f"in rollout {number} log-probabilities of vLLM are up to {largest:.2g} from the "
                f"trainer's ({mean:.2g} in the mean; `max_gap` is {self.bound:g}): is its server "
                "in the stage's precision, and on the model that the policy began as?"
            )
            _LOG.warning("%s", line)
            self.say(line)
        return {LARGEST: largest, MEAN: mean}


def gap_figures(notes: dict[str, Any]) -> dict[str, float]:
    """Return the largest gap of a whole run and the mean of its rollouts' means, if any."""
    kept = notes.get(_NOTE)
    if kept is None:
        return {}
    return {"logp_gap": kept["largest"], "logp_gap_mean": sum(kept["means"]) / len(kept["means"])}
