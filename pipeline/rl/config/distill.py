"""DistillConfig: what DistillTrainer may be asked.

On-policy distillation (Agarwal et al. 2024, "GKD"; Gu et al. 2024, "MiniLLM"): the student writes,
and learns at each token from a teacher's distribution there. Names are TRL 1.16's: of its
DistillationConfig, `lmbda` of its GKDConfig, `loss_top_k` and `loss_add_tail` of its
ServerDistillationConfig.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pipeline.config.distill_arguments import ARGUMENTS, together_problem
from pipeline.config.ppo_defaults import GROUP_LEARNING_RATE
from pipeline.rl.config.groups import GroupConfig
from pipeline.rl.config.upstream import take_upstream
from pipeline.rl.objective import Distilled, Objective

_DISTANCE = "teacher/kl"


@take_upstream
@dataclass
class DistillConfig(GroupConfig):
    """Arguments of DistillTrainer. Below each: what it is, its unit, and its default's source.

    Without rewards each prompt has one response, and nothing is compared; with rewards those of
    GRPO are earned beside what the teacher teaches.
    """

    method: ClassVar[str] = "distillation"
    whole_learning_rate: ClassVar[float] = GROUP_LEARNING_RATE
    least_generations: ClassVar[int] = 1

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of the student; None for 1e-6 (TRL), and for an adapter 1e-4, whose few weights need more."""

    max_completion_length: int = field(default=512)
    """Tokens of a response, at most; one that reaches it without an end is cut there."""

    # What is learnt of the teacher.

    beta: float = field(default=1.0)
    """The divergence: 0 is KL(teacher, student), which covers all that the teacher may say; 1 is
    KL(student, teacher), which avoids what it would not say; between them the generalised
    Jensen-Shannon divergence (Agarwal et al. 2024, eq. 1)."""

    loss_type: Literal["divergence", "policy_gradient"] = field(default="divergence")
    """Of whole distributions at every token (`divergence`); or the log-ratio of teacher to student
    at the token that was sampled, as its reward (`policy_gradient`, Gu et al. 2024, eq. 3; for
    `beta` 1): one number of the teacher's a token, and more noise. Not TRL's."""

    loss_top_k: int = field(default=0)
    """Over how many of the likeliest tokens a divergence goes: the teacher's for `beta` 0, the
    student's for 1, both between; 0 for the whole vocabulary."""

    loss_add_tail: bool = field(default=True)
    """With `loss_top_k`: all other tokens count as one more; else they are left out, and the rest
    is scaled to 1."""

    gamma: float = field(default=0.0)
    """With `policy_gradient`: how much of the next token's reward counts at a token. 0 is each
    token alone; 1 is the gradient of the whole response's KL, with more noise."""

    teacher_coef: float = field(default=1.0)
    """Of the teacher in the loss, beside rewards."""

    lmbda: float = field(default=1.0)
    """Share of responses that the student samples, where rows have completions of their own; the
    others are learnt on these."""

    # Rewards beside the teacher.

    num_generations: int = field(default=1)
    """Responses to each prompt; 2 or more with rewards, which are compared, and 1 without."""

    scale_rewards: Literal["group", "batch", "none"] = field(default="group")
    """With rewards: what a score's distance to its group's mean is divided by, as in GRPO."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = _DISTANCE
        is_distance = (self.metric_for_best_model or "").removeprefix("eval_") == _DISTANCE
        if is_distance and self.greater_is_better is None:
            self.greater_is_better = False
        super().__post_init__()
        if self.rollout_engine == "vllm":
            message = "`rollout_engine` vllm is for PPO, GRPO and RLOO"
            raise ValueError(f"{message}; a student samples with the others")
        self.check_not_below_0("loss_top_k", "gamma", "teacher_coef", "lmbda")
        for name in ("beta", "gamma", "lmbda"):
            if getattr(self, name) > 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be from 0 to 1")
        problem = together_problem({name: getattr(self, name) for name in ARGUMENTS})
        if problem:
            raise ValueError(f"{problem[1]}; {problem[2]}")

    @property
    def objective(self) -> Objective:
        """The teacher's divergence or log-ratio; advantages by groups where there are rewards."""
        return Objective(
            advantage="group" if self.num_generations > 1 else "none",
            scale=self.scale_rewards,
            clip_low=self.epsilon,
            clip_high=self.epsilon if self.epsilon_high is None else self.epsilon_high,
            aggregation="token",
            masks_truncated=self.mask_truncated_completions,
            distilled=Distilled(
                beta=self.beta,
                top_k=self.loss_top_k,
                add_tail=self.loss_add_tail,
                coef=self.teacher_coef,
                is_sampled=self.loss_type == "policy_gradient",
                discount=self.gamma,
            ),
        )

    @property
    def may_lack_rewards(self) -> bool:
        """Whether there may be no reward at all."""
        return True

    @property
    def reuses_sampled_logprobs(self) -> bool:
        """Whether the sampler's log-probabilities are the old ones of the ratios.

        Not where rows come with completions, of which there are none: their neighbours in a pass
        would be treated in another way than elsewhere.
        """
        return super().reuses_sampled_logprobs and self.lmbda == 1

    @property
    def sampled_share(self) -> float:
        """Share of responses that are sampled where rows have completions of their own."""
        return self.lmbda
