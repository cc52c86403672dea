"""RLOOConfig: what RLOOTrainer may be asked, under the names of TRL 1.16's RLOOConfig.

REINFORCE with the other responses to a prompt as baseline (Ahmadian et al. 2024, "Back to basics";
Kool et al. 2019), a whole response as one action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.config.ppo_defaults import GROUP_LEARNING_RATE
from pipeline.rl.config.groups import GroupConfig
from pipeline.rl.config.upstream import take_upstream
from pipeline.rl.objective import Objective


@take_upstream
@dataclass
class RLOOConfig(GroupConfig):
    """Arguments of RLOOTrainer. Below each: what it is, its unit, and where its default is from.

    Names and defaults are TRL 1.16's; fields that TRL does not have say so.
    """

    method: ClassVar[str] = "RLOO"
    whole_learning_rate: ClassVar[float] = GROUP_LEARNING_RATE

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of the policy; None for 1e-6 (TRL), and for an adapter 1e-4, whose few weights need more."""

    max_completion_length: int = field(default=512)
    """Tokens of a response, at most; one that reaches it without an end is cut there."""

    num_generations: int = field(default=2)
    """Responses to each prompt: the baseline of one is the mean of the others'. 2 or more."""

    beta: float = field(default=0.05)
    """What a nat away from the reference costs: taken off the score of a whole response."""

    normalize_advantages: bool = field(default=False)
    """Scale advantages to mean 0 and deviation 1 over the rollout."""

    reward_clip_range: tuple[float, float] | None = field(default=None)
    """[lowest, highest] score before KL is taken off; None for no bounds. `reward_clip` here."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        if self.reward_clip_range is not None and self.reward_clip is not None:
            raise ValueError("`reward_clip_range` and `reward_clip` are the same; write one")
        if self.reward_clip_range is not None:
            self.reward_clip = list(self.reward_clip_range)
        super().__post_init__()

    @property
    def objective(self) -> Objective:
        """Advantages by the others in a group, one ratio of a response, KL in the reward."""
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return Objective(
            advantage="leave_one_out",
            scale="batch" if self.normalize_advantages else "none",
            kl_in_reward=True,
            ratio="sequence_sum",
            clip_low=self.epsilon,
            clip_high=high,
            aggregation="seq",
            counts_empty_rows=True,
            masks_truncated=self.mask_truncated_completions,
            correction=self.correction,
            correction_low=self.vllm_importance_sampling_clip_min,
            correction_high=self.vllm_importance_sampling_clip_max,
        )

    @property
    def kl_control(self) -> tuple[float, float | None, float]:
        """Coefficient, target and horizon of the KL in the reward."""
        return self.beta, None, 1.0
