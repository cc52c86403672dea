"""PPOConfig: what PPOTrainer may be asked, beside everything that transformers' trainer may be.

Not the recipe's block (pipeline/stages/ppo.py), which fills it in. Imports nothing heavy but
transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from transformers import TrainingArguments

from pipeline.config.ppo_arguments import REFUSED, value_problem

_OF_TEMPLATE = {"add_generation_prompt", "continue_final_message", "tokenize", "return_dict"}


@dataclass
class PPOConfig(TrainingArguments):
    """Arguments of PPOTrainer, with their defaults and where these come from.

    One rollout is `per_device_train_batch_size * gradient_accumulation_steps * num_mini_batches`
    responses on each process; it is trained on for `num_ppo_epochs` epochs of `num_mini_batches`
    optimizer steps, so learning rates, `max_steps` and schedules count optimizer steps. Each of
    upstream's arguments works, or is refused with the reason (pipeline/config/ppo_arguments.py).

    logging_steps: 1, so that every rollout has a line; with more, those that hold a multiple of it.
    total_episodes: responses in all; without it `num_train_epochs` passes over the prompts.
    num_ppo_epochs: passes over a rollout, 4 (Ziegler et al. 2019; Huang et al. 2024).
    num_mini_batches: optimizer steps of each pass, 1.
    max_completion_length: tokens of a response. max_prompt_length: longer prompts are refused;
        None for what the model's positions leave.
    chat_template_kwargs: for the tokenizer's chat template, such as `enable_thinking`; a row's own
        column of this name is laid over it.
    temperature: of sampling, and of every log-probability. There is no top-k and no top-p: what is
        sampled must be what is scored.
    stop_token_ids: further tokens that end a response, as EOS does.
    stop_strings: texts that end a response as soon as they stand in it; their tokens are trained
        on, reward functions do not see them.
    rollout_engine: `own` (a loop over the model's forward), `generate` or `vllm`.
    vllm_mode: an engine in this process (`colocate`), or a server's (`server`). vllm_options:
        passed on to it (pipeline/rl/vllm_engines.py): `gpu_memory_utilization`, `base_url`, ...
    rollout_batch_size: rows decoded together; None for all of this process. scoring_batch_size:
        rows of one forward pass without gradients.
    reuse_rollout_logprobs: take the sampler's log-probabilities for the old ones instead of
        computing them again: one forward pass less; in fp32 they agree to 1e-5.
    kl_coef: 0.05. kl_estimator: of the KL in the reward, k1 (Ziegler et al. 2019). kl_target,
        kl_horizon: nats a sequence to steer towards, and in how many episodes; None for a fixed
        coefficient. kl_loss_coef: of a KL in the loss beside it, by k2, whose gradient is right.
    learning_rate: of the policy; None for 3e-6, and for an adapter 1e-4.
    gamma: discount, 1. lam: of GAE, 0.95 (Schulman et al. 2016). truncation: what comes after a
        response that was cut: nothing (`terminal`), or the critic's value there (`bootstrap`).
    cliprange: 0.2. cliprange_high: above, None for the same (Yu et al. 2025, "DAPO": 0.28).
    dual_clip: bound on the loss of negative advantages (Ye et al. 2020: 3), None for none.
    cliprange_value: 0.2, None for none: with returns much larger the critic does not learn.
    vf_coef: 0.1; it matters where policy and critic share weights. critic_learning_rate: None for
        the policy's, and for a whole critic beside an adapter 0.03 of it. critic_warmup_rollouts:
        rollouts that train the critic alone.
    entropy_coef: of an entropy bonus, 0.
    whiten_rewards: off. whiten_advantages: on, over the whole rollout and all processes.
    loss_aggregation: mean over tokens, over rows of their means (`seq`) or of their sums
        (`seq_sum`).
    reward_weights: one a reward. reward_normalisation, reward_clip: of their sum, in this order.
    missing_eos_penalty: then taken off a response that was cut (`eos_penalty_mode: subtract`), or
        put in the score's place, negated (`replace`).
    target_approx_kl: end a rollout's training when a step moved the policy this far (k3, nats a
        token); None for never.
    layout: `separate` (a critic of its own), `shared_lora` (adapters on one frozen network),
        `shared_trunk` (a value head on the policy), or `auto`: adapters share where they can.
    detach_value_trunk: in `shared_trunk`, keep the critic's gradient out of the policy.
    disable_dropout: on, since ratios compare two passes over the same tokens.
    """

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    adam_epsilon: float = field(default=1e-5)
    lr_scheduler_type: str = field(default="linear")
    logging_steps: float = field(default=1)
    remove_unused_columns: bool = field(default=False)
    total_episodes: int | None = field(default=None)
    num_ppo_epochs: int = field(default=4)
    num_mini_batches: int = field(default=1)
    max_completion_length: int = field(default=128)
    max_prompt_length: int | None = field(default=None)
    chat_template_kwargs: dict[str, Any] | None = field(default=None)
    temperature: float = field(default=1.0)
    rollout_engine: Literal["own", "generate", "vllm"] = field(default="own")
    stop_token_ids: list[int] | None = field(default=None)
    stop_strings: list[str] | None = field(default=None)
    vllm_mode: Literal["colocate", "server"] = field(default="colocate")
    vllm_options: dict[str, Any] | None = field(default=None)
    rollout_batch_size: int | None = field(default=None)
    scoring_batch_size: int = field(default=16)
    reuse_rollout_logprobs: bool = field(default=False)
    kl_coef: float = field(default=0.05)
    kl_estimator: Literal["k1", "k2", "k3"] = field(default="k1")
    kl_target: float | None = field(default=None)
    kl_horizon: float = field(default=10000.0)
    kl_loss_coef: float = field(default=0.0)
    gamma: float = field(default=1.0)
    lam: float = field(default=0.95)
    truncation: Literal["terminal", "bootstrap"] = field(default="terminal")
    cliprange: float = field(default=0.2)
    cliprange_high: float | None = field(default=None)
    dual_clip: float | None = field(default=None)
    cliprange_value: float | None = field(default=0.2)
    vf_coef: float = field(default=0.1)
    critic_learning_rate: float | None = field(default=None)
    critic_warmup_rollouts: int = field(default=0)
    entropy_coef: float = field(default=0.0)
    whiten_rewards: bool = field(default=False)
    whiten_advantages: bool = field(default=True)
    loss_aggregation: Literal["token", "seq", "seq_sum"] = field(default="token")
    reward_weights: list[float] | None = field(default=None)
    reward_normalisation: Literal["none", "running", "fixed"] = field(default="none")
    reward_clip: list[float] | None = field(default=None)
    missing_eos_penalty: float | None = field(default=None)
    eos_penalty_mode: Literal["subtract", "replace"] = field(default="subtract")
    target_approx_kl: float | None = field(default=None)
    layout: Literal["auto", "separate", "shared_lora", "shared_trunk"] = field(default="auto")
    detach_value_trunk: bool = field(default=False)
    disable_dropout: bool = field(default=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "objective/scores"  # upstream's, a loss, is of labels
        self._check_upstream()  # first: upstream loads DeepSpeed, or sets the environment
        super().__post_init__()
        for name, kind in get_type_hints(type(self)).items():
            allowed = get_args(kind) if get_origin(kind) is Literal else ()
            if allowed and name in PPOConfig.__annotations__ and getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is `{getattr(self, name)}`; write {_either(allowed)}")
        positive = ("num_ppo_epochs", "num_mini_batches", "max_completion_length", "temperature")
        for name in (*positive, "scoring_batch_size", "kl_horizon"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be above 0")
        or_none = ("total_episodes", "rollout_batch_size", "kl_target", "target_approx_kl")
        for name in (*or_none, "cliprange_high", "cliprange_value"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be above 0, or none")
        for name in ("kl_coef", "kl_loss_coef", "vf_coef", "critic_warmup_rollouts"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be 0 or above")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 < self.cliprange < 1:
            raise ValueError(f"`cliprange` is {self.cliprange}; it must be between 0 and 1")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"`dual_clip` is {self.dual_clip}; it must be above 1, or none")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("`kl_target` steers `kl_coef` by factors; begin with one above 0")
        if isinstance(self.stop_strings, str) or "" in (self.stop_strings or ()):
            raise ValueError(f"`stop_strings` is {self.stop_strings!r}; write a list of texts")
        is_vllm = self.rollout_engine == "vllm"
        if not is_vllm and (self.vllm_options or self.vllm_mode != "colocate"):
            raise ValueError("`vllm_mode` and `vllm_options` are for `rollout_engine` vllm")
        if taken := sorted(_OF_TEMPLATE & set(self.chat_template_kwargs or {})):
            raise ValueError(f"`{taken[0]}` of `chat_template_kwargs` is decided by PPO")
        if self.reward_clip is not None and len(self.reward_clip) != 2:
            raise ValueError(f"`reward_clip` is {self.reward_clip}; write [lowest, highest] score")

    def _check_upstream(self) -> None:
        """Refuse arguments of transformers' trainer that would be accepted and ignored."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in REFUSED and not _is_left(value, each.default):
                raise ValueError(f"`{each.name}` {REFUSED[each.name]}")
            found = value_problem(each.name, value)
            if found:
                raise ValueError(found)

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that one rollout is trained on for."""
        return self.num_ppo_epochs * self.num_mini_batches

    @property
    def rollout_size(self) -> int:
        """Responses of one rollout, over all processes."""
        per_step = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return per_step * self.world_size * self.num_mini_batches


def _is_left(value: Any, default: Any) -> bool:
    """Whether a field has its default, or what upstream makes of that: a config of defaults."""
    is_empty = not value and default is not True
    return is_empty or value == default or (is_dataclass(value) and value == type(value)())  # pyright: ignore


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
