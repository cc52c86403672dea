"""RlState: what a run of reinforcement learning holds between two optimizer steps, beside weights.

All of it goes into checkpoints (checkpoint.py) and is what a log line is made of (log_lines.py).
It knows no trainer and no method: whatever learns from rollouts holds these.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.rl.guards import GuardState
from pipeline.rl.step_totals import StepTotals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.core import FixedKL
    from pipeline.rl.experience import Experience


@dataclass
class RlState:
    """What a run holds.

    kl: the coefficient of the KL penalty, and what steers it. rewards: whose running moments count.
    rollout: the number of the rollout that is trained on, -1 before the first. metrics: of it.
    experience: its rows, None between two rollouts. totals: of its optimizer steps so far.
    is_cut_short: its epochs have ended early, since the policy moved far enough.
    notes: JSON of whatever watches the training. prompts_drawn: how many prompts were asked so far.
    guards: what is told signs of reward hacking by.
    """

    kl: FixedKL
    rewards: RewardComposition
    rollout: int = -1
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    experience: Experience | None = None
    totals: StepTotals = field(default_factory=StepTotals)
    is_cut_short: bool = False
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    prompts_drawn: int = 0
    guards: GuardState = field(default_factory=GuardState)

    def restart(self) -> None:
        """Forget the rollout, as a trainer does that trains again from the weights there are."""
        self.experience, self.rollout, self.totals = None, -1, StepTotals()
        self.prompts_drawn, self.guards = 0, GuardState()

    def begin(self, rollout: int, experience: Experience, metrics: dict[str, float]) -> None:
        """Take up the next rollout, none of whose steps is made yet."""
        self.rollout, self.experience, self.metrics = rollout, experience, metrics
        self.totals, self.is_cut_short = StepTotals(), self.is_stopped

    @property
    def is_stopped(self) -> bool:
        """Whether a sign of reward hacking stops training, with nothing learnt any more."""
        return self.guards.stopped_by is not None

    @property
    def has_new_sign(self) -> bool:
        """Whether a sign of reward hacking showed in this rollout for the first time."""
        return any(shown["rollout"] == self.rollout for shown in self.guards.shown)

    def to_json(self) -> dict[str, Any]:
        """Return everything except the experience, which is tensors."""
        return {
            "rollout": self.rollout,
            "kl": self.kl.state_dict(),
            "rewards": self.rewards.state_dict(),
            "metrics": self.metrics,
            "totals": self.totals.whole,
            "is_cut_short": self.is_cut_short,
            "notes": self.notes,
            "prompts_drawn": self.prompts_drawn,
            "guards": asdict(self.guards),
        }

    def take_json(self, saved: Mapping[str, Any], experience: Experience | None) -> None:
        """Take up where `to_json` was called."""
        self.rollout = saved["rollout"]
        self.kl.load_state_dict(saved["kl"])
        self.rewards.load_state_dict(saved["rewards"])
        self.metrics = saved["metrics"]
        self.totals.whole |= saved["totals"]
        self.is_cut_short = saved["is_cut_short"]
        self.notes = saved["notes"]
        self.prompts_drawn = saved["prompts_drawn"]
        self.guards = GuardState(**saved.get("guards", {}))  # older checkpoints have none
        self.experience = experience
