"""RolloutConfig: what every trainer on rollouts may be asked, whatever it makes of the rewards.

Not the recipe's blocks (pipeline/stages/rl/config.py), which fill it in. Imports nothing heavy but
transformers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from transformers import TrainingArguments

from pipeline.config.ppo_defaults import ADAPTER_LEARNING_RATE, LEARNING_RATE
from pipeline.config.rollout_arguments import REFUSED, value_problem
from pipeline.config.rollout_engine import rollout_block
from pipeline.rl.signs import bounds_of

if TYPE_CHECKING:
    from pipeline.rl.objective import Correction, Objective

_OF_TEMPLATE = {"add_generation_prompt", "continue_final_message", "tokenize", "return_dict"}


@dataclass
class RolloutConfig(TrainingArguments, ABC):
    """Arguments of a trainer on rollouts. Below each: what it is, its unit, its default's source.

    Learning rates, `max_steps` and schedules count optimizer steps. Each of upstream's arguments
    works, or is refused with the reason (pipeline/config/rollout_arguments.py).
    """

    method: ClassVar[str] = "this method"  # as messages call it
    whole_learning_rate: ClassVar[float] = LEARNING_RATE  # where no adapter is trained

    # What is trained, and how fast.

    learning_rate: float | None = field(default=None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of the policy; None for 3e-6 (TRL's PPO), and for an adapter 1e-4, whose few weights need
    more."""

    adam_epsilon: float = field(default=1e-5)
    """In Adam's denominator: that of OpenAI's baselines (Huang et al. 2024), not torch's 1e-8."""

    lr_scheduler_type: str = field(default="linear")
    """Schedule of all learning rates over optimizer steps: falling to 0 in a line."""

    disable_dropout: bool = field(default=True)
    """Train without dropout: ratios compare two passes over the same tokens, and it is noise."""

    # How long.

    total_episodes: int | None = field(default=None)
    """Responses in all; without it `num_train_epochs` passes over the prompts."""

    target_approx_kl: float | None = field(default=None)
    """End a rollout's training when a step moved the policy this far (k3, nats per token); None for
    never."""

    logging_steps: float = field(default=1)
    """Optimizer steps per line: 1, so that every rollout has one; with more, rollouts that hold a
    multiple of it do."""

    stop_when: dict[str, float | bool] | None = field(default=None)
    """Signs of reward hacking that end training, each with its bound, or true for its default
    (pipeline/rl/signs.py): `{"length": True, "repetition": 0.3}`; None for none."""

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

    max_tool_calling_iterations: int | None = field(default=None)
    """How often a response's calls of tools are answered, where the trainer has `tools`; None for
    as long as there is room in `max_completion_length`, which counts what tools answer."""

    remove_unused_columns: bool = field(default=False)
    """Off, and refused when on: reward functions are handed every column."""

    # What samples, and how much at a time: speed and memory, not mathematics.

    rollout_engine: Literal["own", "generate", "vllm"] = field(default="own")
    """What samples: `own` (a loop over the model's forward), `generate` or `vllm` (a server)."""

    vllm_options: dict[str, Any] | None = field(default=None)
    """Of vLLM's server, what a recipe's `rollout:` may say (pipeline/config/rollout_engine.py):
    `url`, `python`, `server_args`, ..."""

    rollout_batch_size: int | None = field(default=None)
    """Rows decoded together; None for all of this process."""

    scoring_batch_size: int = field(default=16)
    """Rows of one forward pass without gradients."""

    # What another engine samples with other probabilities.

    vllm_importance_sampling_correction: bool = field(default=True)
    """Weigh what vLLM sampled by how much likelier it is under the policy that is trained."""

    vllm_importance_sampling_mode: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ] = field(default="sequence_mask")
    """Of each token or a whole response; ratios out of bounds are cut to them, or weigh 0."""

    vllm_importance_sampling_clip_max: float | None = field(default=3.0)
    """The bound above; None for none."""

    vllm_importance_sampling_clip_min: float | None = field(default=None)
    """The bound below; None for none."""

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

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "objective/scores"  # upstream's, a loss, is of labels
        self._check_upstream()  # first: upstream loads DeepSpeed, or sets the environment
        super().__post_init__()
        upstream = {argument.name for argument in fields(TrainingArguments)}
        for name, kind in get_type_hints(type(self)).items():
            allowed = get_args(kind) if get_origin(kind) is Literal else ()
            if allowed and name not in upstream and getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is `{getattr(self, name)}`; write {_either(allowed)}")
        self.check_above_0("max_completion_length", "temperature", "scoring_batch_size")
        self.check_above_0("total_episodes", "rollout_batch_size", "target_approx_kl", or_none=True)
        self.check_above_0("max_tool_calling_iterations", or_none=True)
        if isinstance(self.stop_strings, str) or "" in (self.stop_strings or ()):
            raise ValueError(f"`stop_strings` is {self.stop_strings!r}; write a list of texts")
        self._check_engine()
        bounds_of(self.stop_when)
        if taken := sorted(_OF_TEMPLATE & set(self.chat_template_kwargs or {})):
            message = f"`{taken[0]}` of `chat_template_kwargs` is decided by {self.method}"
            raise ValueError(message)
        if self.reward_clip is not None and len(self.reward_clip) != 2:
            raise ValueError(f"`reward_clip` is {self.reward_clip}; write [lowest, highest] score")

    def _check_engine(self) -> None:
        """Refuse what vLLM does not do, with ValueError."""
        low, high = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"`vllm_importance_sampling_clip_min` {low} is above "
                f"`vllm_importance_sampling_clip_max` {high}; exchange them"
            )
        if self.rollout_engine != "vllm":
            if self.vllm_options:
                raise ValueError("`vllm_options` are for `rollout_engine` vllm")
            return
        rollout_block(self.vllm_options)
        if self.world_size > 1:
            message = "with `rollout_engine` vllm training has one process"
            raise ValueError(f"{message}; the server may use more devices")
        if self.reuses_sampled_logprobs:
            message = "`reuse_rollout_logprobs` takes vLLM's log-probabilities for the policy's own"
            raise ValueError(f"{message}, and no gap between them would be seen; leave it out")

    @property
    def correction(self) -> Correction | None:
        """How what another engine sampled is weighed; None for not."""
        corrects = self.rollout_engine == "vllm" and self.vllm_importance_sampling_correction
        return self.vllm_importance_sampling_mode if corrects else None

    def check_above_0(self, *names: str, or_none: bool = False) -> None:
        """Raise ValueError for the first of these arguments that is not above 0."""
        for name in names:
            value = getattr(self, name)
            if not (or_none and value is None) and value <= 0:
                hint = ", or none" if or_none else ""
                raise ValueError(f"`{name}` is {value}; it must be above 0{hint}")

    def check_not_below_0(self, *names: str) -> None:
        """Raise ValueError for the first of these arguments that is negative."""
        for name in names:
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be 0 or above")

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
    @abstractmethod
    def objective(self) -> Objective:
        """What the method chose of the engine."""

    @property
    def kl_control(self) -> tuple[float, float | None, float]:
        """Coefficient, target and horizon of a KL in the reward (core.kl_controller)."""
        return 0.0, None, 1.0

    @property
    def group_size(self) -> int:
        """Responses to each prompt of a rollout."""
        return 1

    @property
    def may_lack_rewards(self) -> bool:
        """Whether there may be no reward at all."""
        return False

    @property
    def sampled_share(self) -> float:
        """Share of responses that are sampled where rows have completions of their own."""
        return 1.0

    @property
    def epochs_per_rollout(self) -> int:
        """Passes over a rollout."""
        return 1

    @property
    def parts_per_rollout(self) -> int:
        """Optimizer steps of each pass over a rollout."""
        return 1

    @property
    def overlong_tokens(self) -> int | None:
        """In how many tokens before the limit a long response loses up to 1; None for nothing."""
        return None

    @property
    def discount_and_trace(self) -> tuple[float, float]:
        """Gamma and lambda of generalised advantage estimation."""
        return 1.0, 1.0

    @property
    def whitens_rewards(self) -> bool:
        """Whether the tokens' rewards are scaled to variance 1."""
        return False

    @property
    def bootstraps_truncated(self) -> bool:
        """Whether the critic's value stands for what comes after a response that was cut."""
        return False

    @classmethod
    def default_learning_rate(cls, *, is_adapted: bool) -> float:
        """Return the policy's learning rate; an adapter's few weights need larger steps."""
        return ADAPTER_LEARNING_RATE if is_adapted else cls.whole_learning_rate

    @property
    def critic_rate(self) -> float | None:
        """The critic's learning rate; None for the policy's."""
        return None

    @property
    def value_loss(self) -> tuple[float | None, float]:
        """Clip and coefficient of the critic's loss."""
        return None, 1.0

    @property
    def warmup_rollouts(self) -> int:
        """Rollouts at the beginning that train the critic alone."""
        return 0

    @property
    def rounds_of_sampling(self) -> int:
        """Times that groups without spread are replaced by fresh prompts, at most."""
        return 0

    @property
    def reuses_sampled_logprobs(self) -> bool:
        """Whether the sampler's log-probabilities are the old ones of the ratios."""
        return False

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that one rollout is trained on for."""
        return self.epochs_per_rollout * self.parts_per_rollout

    @property
    def rollout_size(self) -> int:
        """Responses of one rollout, over all processes."""
        per_step = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return per_step * self.world_size * self.parts_per_rollout

    @property
    def num_rollouts(self) -> int:
        """Whole rollouts of the training, once its steps are settled."""
        return self.max_steps // self.steps_per_rollout

    @property
    def evaluated_at_once(self) -> int:
        """Held-out prompts that a process answers together: a rollout's, which fit into memory."""
        return max(self.rollout_size // self.world_size, self.per_device_eval_batch_size)


def _is_left(value: Any, default: Any) -> bool:
    """Whether a field has its default, or what upstream makes of that: a config of defaults."""
    is_empty = not value and default is not True
    return is_empty or value == default or (is_dataclass(value) and value == type(value)())  # pyright: ignore


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
