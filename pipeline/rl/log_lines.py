"""What is logged of a rollout, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.rl.trainer import PPOTrainer


@dataclass(frozen=True)
class Cadence:
    """When a rollout's line is logged: after a multiple of `logging_steps` optimizer steps.

    Every line is of one rollout; those between are not shown.
    """

    is_on: bool
    shows_first: bool

    def is_due(self, begin: int, end: int, every: int) -> bool:
        """Whether a rollout trained on in the steps from begin + 1 to end has a line."""
        if begin == 0 and self.shows_first:
            return True
        return self.is_on and end // every > begin // every


def line_of(trainer: PPOTrainer) -> dict[str, float]:
    """Return what is logged of the rollout that was trained on."""
    schedule: Any = trainer.lr_scheduler
    rates: list[float] = [float(rate) for rate in schedule.get_last_lr()]
    seconds = trainer.collector.seconds
    number = trainer.rollout_metrics["completions/length_mean"] * trainer.rollout_size
    return {
        **trainer.rollout_metrics,
        **trainer.totals.metrics(),
        "policy/cut_short": float(trainer.is_cut_short),
        "episode": float((trainer.rollout + 1) * trainer.rollout_size),
        "lr": rates[0],
        "critic_lr": rates[-1],
        "time/rollout": seconds["rollout"],
        "time/score": seconds["score"],
        "time/train": trainer.training_s,
        "time/tokens_per_second": number / max(seconds["rollout"], 1e-9),
    }
