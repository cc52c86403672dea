"""PPOConfig: what PPOTrainer may be asked, beside everything that transformers' trainer may be.

Not the recipe's block (pipeline/stages/ppo/config.py), which fills it in. Imports nothing heavy but
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
    """Arguments of PPOTrainer. Below each: what it is, its unit, and where its default is from.

    One rollout is `per_device_train_batch_size * gradient_accumulation_steps * num_mini_batches`
    responses on each process; it is trained on for `num_ppo_epochs` epochs of `num_mini_batches`
    optimizer steps, so learning rates, `max_steps` and schedules count optimizer steps. Each of
    upstream's arguments works, or is refused with the reason (pipeline/config/ppo_arguments.py).

    Coefficients without a source are those of TRL's last PPO, most of them Ziegler et al. 2019's.
    """

    # What is trained, and how fast.

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of the policy; None for 3e-6 (TRL), and for an adapter 1e-4, whose few weights need more."""

    critic_learning_rate: float | None = field(default=None)
    """Of the critic; None for the policy's, and for a whole critic beside an adapter 0.03 of it."""

    critic_warmup_rollouts: int = field(default=0)
    """Rollouts at the beginning that train the critic alone."""

    adam_epsilon: float = field(default=1e-5)
    """In Adam's denominator: that of OpenAI's baselines (Huang et al. 2024), not torch's 1e-8."""

    lr_scheduler_type: str = field(default="linear")
    """Schedule of both learning rates over optimizer steps: falling to 0 in a line."""

    layout: Literal["auto", "separate", "shared_lora", "shared_trunk"] = field(default="auto")
    """Which weights are shared: `separate` (a critic of its own), `shared_lora` (adapters on one
    frozen network), `shared_trunk` (a value head on the policy), or `auto`: adapters share where
    they can."""

    detach_value_trunk: bool = field(default=False)
    """In `shared_trunk`, keep the critic's gradient out of the policy."""

    disable_dropout: bool = field(default=True)
    """Train without dropout: ratios compare two passes over the same tokens, and it is noise."""

    # How long.

    total_episodes: int | None = field(default=None)
    """Responses in all; without it `num_train_epochs` passes over the prompts."""

    num_ppo_epochs: int = field(default=4)
    """Passes over a rollout (Ziegler et al. 2019; Huang et al. 2024)."""

    num_mini_batches: int = field(default=1)
    """Optimizer steps of each pass over a rollout."""

    target_approx_kl: float | None = field(default=None)
    """End a rollout's training when a step moved the policy this far (k3, nats per token); None for
    never."""

    logging_steps: float = field(default=1)
    """Optimizer steps per line: 1, so that every rollout has one; with more, rollouts that hold a
    multiple of it do."""

    # Prompts and responses.

    max_completion_length: int = field(default=128)
    """Tokens of a response, at most; one that reaches it without an end is cut there."""

    max_prompt_length: int | None = field(default=None)
    """Tokens of a prompt: longer ones are refused; None for what the model's positions leave."""

    chat_template_kwargs: dict[str, Any] | None = field(default=None)
    """Settings of the tokenizer's chat template, such as `enable_thinking`; a row's own column of
    this name is laid over them."""

    temperature: float = field(default=1.0)
    """Of sampling, and of every log-probability. There is no top-k and no top-p: what is sampled
    must be what is scored."""

    stop_token_ids: list[int] | None = field(default=None)
    """Further tokens that end a response, as EOS does."""

    stop_strings: list[str] | None = field(default=None)
    """Texts that end a response as soon as they stand in it; their tokens are trained on, reward
    functions do not see them."""

    remove_unused_columns: bool = field(default=False)
    """Off, and refused when on: reward functions are handed every column."""

    # What samples, and how much at a time: speed and memory, not mathematics.

    rollout_engine: Literal["own", "generate", "vllm"] = field(default="own")
    """What samples: `own` (a loop over the model's forward), `generate` or `vllm`."""

    vllm_mode: Literal["colocate", "server"] = field(default="colocate")
    """With vLLM: an engine in this process (`colocate`), or a server's (`server`)."""

    vllm_options: dict[str, Any] | None = field(default=None)
    """Passed on to vLLM (pipeline/rl/vllm_engines.py): `gpu_memory_utilization`, `base_url`, ..."""

    rollout_batch_size: int | None = field(default=None)
    """Rows decoded together; None for all of this process."""

    scoring_batch_size: int = field(default=16)
    """Rows of one forward pass without gradients."""

    reuse_rollout_logprobs: bool = field(default=False)
    """Take the sampler's log-probabilities for the old ones instead of computing them again: one
    forward pass less; in fp32 they agree to 1e-5."""

    # From rewards to one score per response; in this order.

    reward_weights: list[float] | None = field(default=None)
    """One per reward; None for 1 each."""

    reward_normalisation: Literal["none", "running", "fixed"] = field(default="none")
    """Of their weighted sum, by mean and deviation of all rollouts so far (`running`), or of the
    first one (`fixed`, Ziegler et al. 2019)."""

    reward_clip: list[float] | None = field(default=None)
    """[lowest, highest] score after normalisation; None for no bounds."""

    missing_eos_penalty: float | None = field(default=None)
    """What a response that was cut loses, or is given instead, after the clip; None for nothing."""

    eos_penalty_mode: Literal["subtract", "replace"] = field(default="subtract")
    """How: taken off the score (`subtract`), or put in its place, negated (`replace`, TRL's older
    way)."""

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
        for argument in fields(self):
            value = getattr(self, argument.name)
            if argument.name in REFUSED and not _is_left(value, argument.default):
                raise ValueError(f"`{argument.name}` {REFUSED[argument.name]}")
            problem = value_problem(argument.name, value)
            if problem:
                raise ValueError(problem)

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
