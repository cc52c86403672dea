"""GRPOConfig: what GRPOTrainer may be asked, under the names of TRL 1.16's GRPOConfig.

GRPO (Shao et al. 2024, "DeepSeekMath"), and what differs from it by a choice: Dr. GRPO (Liu et al.
2025), DAPO (Yu et al. 2025), BNPO, CISPO (MiniMax 2025), GSPO (Zheng et al. 2025), SAPO (Gao et al.
2025), LUSPO, REINFORCE++ (Hu et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pipeline.config.ppo_defaults import GROUP_LEARNING_RATE
from pipeline.rl.config.groups import GroupConfig
from pipeline.rl.config.upstream import take_upstream
from pipeline.rl.objective import Aggregation, Objective

_AGGREGATIONS: dict[str, Aggregation] = {
    "grpo": "seq",
    "bnpo": "token",
    "dapo": "rollout",
    "cispo": "rollout",
    "dr_grpo": "constant",
    "sapo": "seq",
    "luspo": "seq_sum",
    "vespo": "rollout",
}


@take_upstream
@dataclass
class GRPOConfig(GroupConfig):
    """Arguments of GRPOTrainer. Below each: what it is, its unit, and where its default is from.

    Names and defaults are TRL 1.16's, so that settings mean the same; fields that TRL does not have
    say so.
    """

    method: ClassVar[str] = "GRPO"
    whole_learning_rate: ClassVar[float] = GROUP_LEARNING_RATE

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of the policy; None for 1e-6 (TRL), and for an adapter 1e-4, whose few weights need more."""

    max_completion_length: int = field(default=512)
    """Tokens of a response, at most; one that reaches it without an end is cut there."""

    # Advantages.

    scale_rewards: Literal["group", "batch", "none"] | bool = field(default="group")
    """What a score's distance to its group's mean is divided by: the deviation of the group (Shao
    et al. 2024), of the rollout (Liu et al. 2025, "Tricks or traps"), or nothing (Dr. GRPO)."""

    advantage_estimator: Literal["group", "rloo", "reinforce", "reinforce_baseline"] = field(
        default="group"
    )
    """How advantages are made of scores: by the group's mean (GRPO), by the mean of the others in
    it (`rloo`), or REINFORCE++ (Hu et al. 2025), without and with the group's mean as baseline. Not
    TRL's."""

    # The loss.

    loss_type: Literal["grpo", "bnpo", "dapo", "cispo", "dr_grpo", "sapo", "luspo", "vespo"] = (
        field(default="dapo")
    )
    """How tokens are added up: mean of rows' means (`grpo`; `sapo` too, with its soft gate instead
    of the clip), mean over the tokens of an optimizer step (`bnpo`), over those of the rollout
    (`dapo`; `cispo` too, with weights of log p that are cut at `epsilon_high`, and `vespo`, with
    weights that fade out with the ratio of the whole response either way), over rows of
    `max_completion_length` (`dr_grpo`), or mean of rows' sums (`luspo`)."""

    importance_sampling_level: Literal["token", "sequence"] = field(default="token")
    """Ratios of each token, or one of a whole response (GSPO, Zheng et al. 2025)."""

    delta: float | None = field(default=None)
    """The largest ratio that counts, whatever the advantage (two-sided clipping, INTELLECT-2); None
    for no bound. 1 + `epsilon_high` or more, where it is `dual_clip`."""

    dual_clip: float | None = field(default=None)
    """Bound on the loss of negative advantages (Ye et al. 2020: 3); None for none. Not TRL's."""

    sapo_temperature_pos: float = field(default=1.0)
    """Of `sapo` for advantages above 0."""

    sapo_temperature_neg: float = field(default=1.05)
    """Of `sapo` for advantages below 0."""

    vespo_k_pos: float = field(default=2.0)
    """Of `vespo` for advantages above 0: how fast weights fall with a ratio below 1."""

    vespo_lambda_pos: float = field(default=3.0)
    """Of `vespo` for advantages above 0: how fast weights fall with a ratio above 1."""

    vespo_k_neg: float = field(default=3.0)
    """Of `vespo` for advantages below 0: how fast weights fall with a ratio below 1."""

    vespo_lambda_neg: float = field(default=2.0)
    """Of `vespo` for advantages below 0: how fast weights fall with a ratio above 1."""

    use_bias_correction_kl: bool = field(default=True)
    """Multiply the KL in the loss by the ratio, which makes its gradient that of the KL to the
    reference (DeepSeek-V3.2); with ratios of whole responses, as TRL does, by the response's."""

    entropy_coef: float = field(default=0.0)
    """Of an entropy bonus."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        if isinstance(self.scale_rewards, bool):  # as TRL takes it
            self.scale_rewards = "group" if self.scale_rewards else "none"
        super().__post_init__()
        if self.scale_rewards not in ("group", "batch", "none"):
            raise ValueError(
                f"`scale_rewards` is `{self.scale_rewards}`; write group, batch or none"
            )
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"`dual_clip` is {self.dual_clip}; it must be above 1, or none")
        self.check_above_0("sapo_temperature_pos", "sapo_temperature_neg")
        self.check_not_below_0("vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg")
        self._check_loss()
        if self.advantage_estimator != "group" and self.scale_rewards != "group":
            message = "`scale_rewards` is for the advantages of GRPO"
            raise ValueError(f"{message}; leave it out beside `{self.advantage_estimator}`")

    def _check_loss(self) -> None:
        """Refuse parts of a loss that do not go together, with ValueError."""
        is_sequence = self.importance_sampling_level == "sequence"
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        if self.loss_type in ("cispo", "sapo", "vespo") and is_sequence:
            message = f"`loss_type` {self.loss_type} says itself what its ratios are of"
            raise ValueError(f"{message}; leave `importance_sampling_level` out")
        if self.loss_type == "vespo" and self.correction is not None:
            raise ValueError(
                "`loss_type` vespo has one weight of a whole response, which vLLM's probabilities "
                "are no part of here; write `vllm_importance_sampling_correction: false`"
            )
        if self.loss_type == "luspo" and not is_sequence:
            message = "`loss_type` luspo is of whole responses"
            raise ValueError(f"{message}; write `importance_sampling_level` sequence")
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ValueError(
                "`loss_type` cispo cuts weights at `epsilon_high`: write one (5 is recommended; "
                "TRL would take `epsilon` instead, and cut every weight)"
            )
        if self.delta is not None and self.dual_clip is not None:
            raise ValueError("`delta` and `dual_clip` are the same bound; write one")
        if self.delta is not None and self.delta < 1 + high:
            raise ValueError(
                f"`delta` {self.delta} is below 1 + `epsilon_high` {high}: it would bound the "
                "wrong side; raise it"
            )

    @property
    def objective(self) -> Objective:
        """Advantages by groups; ratios and aggregation as chosen; KL in the loss by k3."""
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        is_reinforce = self.advantage_estimator.startswith("reinforce")
        advantage = (
            "leave_one_out" if self.advantage_estimator == "rloo" else self.advantage_estimator
        )
        is_vespo = self.loss_type == "vespo"
        is_sequence = self.importance_sampling_level == "sequence"
        named = self.loss_type in ("cispo", "sapo", "vespo")
        return Objective(
            advantage=advantage,
            scale=self.scale_rewards if advantage == "group" else "none",  # pyright: ignore[reportArgumentType]
            kl_in_reward=is_reinforce,
            ratio="sequence_sum" if is_vespo else "sequence_mean" if is_sequence else "token",
            surrogate=self.loss_type if named else "clip",  # pyright: ignore[reportArgumentType]
            clip_low=self.epsilon,
            clip_high=high,
            dual_clip=self.delta if self.dual_clip is None else self.dual_clip,
            temperatures=(self.sapo_temperature_pos, self.sapo_temperature_neg),
            kernel=(
                *(self.vespo_k_pos, self.vespo_lambda_pos),
                *(self.vespo_k_neg, self.vespo_lambda_neg),
            ),
            aggregation=_AGGREGATIONS[self.loss_type],
            length=self.max_completion_length,
            counts_empty_rows=True,
            kl_loss_coef=0.0 if is_reinforce else self.beta,
            kl_loss_estimator="k3",
            is_kl_corrected=self.use_bias_correction_kl,
            entropy_coef=self.entropy_coef,
            masks_truncated=self.mask_truncated_completions,
            correction=self.correction,
            correction_low=self.vllm_importance_sampling_clip_min,
            correction_high=self.vllm_importance_sampling_clip_max,
        )

    @property
    def kl_control(self) -> tuple[float, float | None, float]:
        """Coefficient, target and horizon of a KL in the reward: REINFORCE++ has one."""
        is_reinforce = self.advantage_estimator.startswith("reinforce")
        return (self.beta if is_reinforce else 0.0), None, 1.0
