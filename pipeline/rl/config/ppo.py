"""PPOConfig: what PPOTrainer may be asked, beside what every trainer on rollouts may be.

Not the recipe's block (pipeline/stages/ppo.py), which fills it in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pipeline.rl.config.base import RolloutConfig
from pipeline.rl.objective import Objective


@dataclass
class PPOConfig(RolloutConfig):
    """Arguments of PPOTrainer. Below each: what it is, its unit, and where its default is from.

    One rollout is `per_device_train_batch_size * gradient_accumulation_steps * num_mini_batches`
    responses on each process; it is trained on for `num_ppo_epochs` epochs of `num_mini_batches`
    optimizer steps, so learning rates, `max_steps` and schedules count optimizer steps.

    Coefficients without a source are those of TRL's last PPO, most of them Ziegler et al. 2019's.
    """

    method: ClassVar[str] = "PPO"

    # What is trained, and how fast.

    critic_learning_rate: float | None = field(default=None)
    """Of the critic; None for the policy's, and for a whole critic beside an adapter 0.03 of it."""

    critic_warmup_rollouts: int = field(default=0)
    """Rollouts at the beginning that train the critic alone."""

    layout: Literal["auto", "separate", "shared_lora", "shared_trunk"] = field(default="auto")
    """Which weights are shared: `separate` (a critic of its own), `shared_lora` (adapters on one
    frozen network), `shared_trunk` (a value head on the policy), or `auto`: adapters share where
    they can."""

    detach_value_trunk: bool = field(default=False)
    """In `shared_trunk`, keep the critic's gradient out of the policy."""

    # How long.

    num_ppo_epochs: int = field(default=4)
    """Passes over a rollout (Ziegler et al. 2019; Huang et al. 2024)."""

    num_mini_batches: int = field(default=1)
    """Optimizer steps of each pass over a rollout."""

    # What samples, and how much at a time: speed and memory, not mathematics.

    reuse_rollout_logprobs: bool = field(default=False)
    """Take the sampler's log-probabilities for the old ones instead of computing them again: one
    forward pass less; in fp32 they agree to 1e-5."""

    # The distance to the reference.

    kl_coef: float = field(default=0.05)
    """What a nat costs: coef x KL is taken off the reward at each token (TRL's default)."""

    kl_estimator: Literal["k1", "k2", "k3"] = field(default="k1")
    """Of the KL in the reward, at each token (Schulman 2020): k1, the log-ratio itself."""

    kl_target: float | None = field(default=None)
    """Nats per response to steer `kl_coef` towards; None for a fixed coefficient."""

    kl_horizon: float = field(default=10000.0)
    """Responses in which an error of 20% or more moves `kl_coef` by 20%."""

    kl_loss_coef: float = field(default=0.0)
    """Of a KL in the loss, beside the one in the reward: by k2, whose gradient is right."""

    # Advantages.

    gamma: float = field(default=1.0)
    """Discount per token; 1, since a response is worth the same however long it is."""

    lam: float = field(default=0.95)
    """Trace of generalised advantage estimation (Schulman et al. 2016)."""

    truncation: Literal["terminal", "bootstrap"] = field(default="terminal")
    """What comes after a response that was cut: nothing (`terminal`), or the critic's value there
    (`bootstrap`)."""

    whiten_rewards: bool = field(default=False)
    """Scale the tokens' rewards to variance 1 over the rollout; their mean stays."""

    whiten_advantages: bool = field(default=True)
    """Scale advantages to mean 0 and variance 1, over the whole rollout and all processes."""

    # Losses.

    cliprange: float = field(default=0.2)
    """How far a ratio may leave 1 and still be learnt from (Schulman et al. 2017)."""

    cliprange_high: float | None = field(default=None)
    """The bound above; None for `cliprange` (Yu et al. 2025, "DAPO": 0.28)."""

    dual_clip: float | None = field(default=None)
    """Bound on the loss of negative advantages (Ye et al. 2020: 3); None for none."""

    cliprange_value: float | None = field(default=0.2)
    """How far a value may move and still be learnt from; None for no bound. With returns much
    larger than it the critic does not learn."""

    vf_coef: float = field(default=0.1)
    """Of the critic's loss; it matters where policy and critic share weights."""

    entropy_coef: float = field(default=0.0)
    """Of an entropy bonus."""

    loss_aggregation: Literal["token", "seq", "seq_sum"] = field(default="token")
    """Mean over tokens (`token`), over rows of their means (`seq`) or of their sums (`seq_sum`)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        super().__post_init__()
        self.check_above_0("num_ppo_epochs", "num_mini_batches", "kl_horizon")
        self.check_above_0("kl_target", "cliprange_high", "cliprange_value", or_none=True)
        self.check_not_below_0("kl_coef", "kl_loss_coef", "vf_coef", "critic_warmup_rollouts")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 < self.cliprange < 1:
            raise ValueError(f"`cliprange` is {self.cliprange}; it must be between 0 and 1")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"`dual_clip` is {self.dual_clip}; it must be above 1, or none")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("`kl_target` steers `kl_coef` by factors; begin with one above 0")

    @property
    def objective(self) -> Objective:
        """Advantages by a critic, clipped ratios of tokens, KL in the reward."""
        high = self.cliprange if self.cliprange_high is None else self.cliprange_high
        return Objective(
            advantage="gae",
            whitens=self.whiten_advantages,
            kl_in_reward=True,
            kl_estimator=self.kl_estimator,
            clip_low=self.cliprange,
            clip_high=high,
            dual_clip=self.dual_clip,
            aggregation=self.loss_aggregation,
            kl_loss_coef=self.kl_loss_coef,
            entropy_coef=self.entropy_coef,
            correction=self.correction,
            correction_low=self.vllm_importance_sampling_clip_min,
            correction_high=self.vllm_importance_sampling_clip_max,
        )

    @property
    def kl_control(self) -> tuple[float, float | None, float]:
        """Coefficient, target and horizon of the KL in the reward."""
        return self.kl_coef, self.kl_target, self.kl_horizon

    @property
    def epochs_per_rollout(self) -> int:
        """Passes over a rollout."""
        return self.num_ppo_epochs

    @property
    def parts_per_rollout(self) -> int:
        """Optimizer steps of each pass over a rollout."""
        return self.num_mini_batches

    @property
    def reuses_sampled_logprobs(self) -> bool:
        """Whether the sampler's log-probabilities are the old ones of the ratios."""
        return self.reuse_rollout_logprobs

    @property
    def discount_and_trace(self) -> tuple[float, float]:
        """Gamma and lambda of generalised advantage estimation."""
        return self.gamma, self.lam

    @property
    def whitens_rewards(self) -> bool:
        """Whether the tokens' rewards are scaled to variance 1."""
        return self.whiten_rewards

    @property
    def bootstraps_truncated(self) -> bool:
        """Whether the critic's value stands for what comes after a response that was cut."""
        return self.truncation == "bootstrap"

    @property
    def critic_rate(self) -> float | None:
        """The critic's learning rate; None for the policy's."""
        return self.critic_learning_rate

    @property
    def value_loss(self) -> tuple[float | None, float]:
        """Clip and coefficient of the critic's loss."""
        return self.cliprange_value, self.vf_coef

    @property
    def warmup_rollouts(self) -> int:
        """Rollouts at the beginning that train the critic alone."""
        return self.critic_warmup_rollouts
