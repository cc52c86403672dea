"""GroupConfig: what methods share that compare the responses to one prompt with each other.

Names and defaults are TRL 1.16's, except where a field says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.rl.config.base import RolloutConfig


@dataclass
class GroupConfig(RolloutConfig):
    """Arguments of trainers without a critic.

    One rollout is `steps_per_generation` forward passes on each process, its prompts
    `num_generations` times in a row; it is trained on `num_iterations` times.
    """

    least_generations: ClassVar[int] = 2

    # Groups, and how often they are trained on.

    num_generations: int = field(default=8)
    """Responses to each prompt, which are compared with each other; 2 or more."""

    generation_batch_size: int | None = field(default=None)
    """Responses of a rollout over all processes; None for those of one optimizer step, or what
    `steps_per_generation` says."""

    steps_per_generation: int | None = field(default=None)
    """Forward passes that a rollout is parted into; None for `gradient_accumulation_steps`: one
    optimizer step. A multiple of those."""

    num_iterations: int = field(default=1)
    """Passes over a rollout."""

    mask_truncated_completions: bool = field(default=False)
    """Leave responses that were cut out of the loss (Yu et al. 2025, "DAPO"). Their scores, and
    their KL where it is in the reward (not in TRL's RLOO), still count in their groups' means."""

    dynamic_sampling: int = field(default=0)
    """Replace groups without any spread in their scores by fresh prompts (Yu et al. 2025), at most
    so many times a rollout; 0 for not. Not TRL's, which does not have it."""

    overlong_cache: int | None = field(default=None)
    """Take off the score what a response is longer than `max_completion_length` less so many
    tokens, as a share of them: up to 1 (Yu et al. 2025, eq. 13). None for nothing. Not TRL's."""

    # The loss.

    beta: float = field(default=0.0)
    """What a nat away from the reference costs."""

    epsilon: float = field(default=0.2)
    """How far a ratio may fall below 1, and rise above it, and still be learnt from."""

    epsilon_high: float | None = field(default=None)
    """The bound above; None for `epsilon` (Yu et al. 2025: 0.28)."""

    # Speed.

    reuse_rollout_logprobs: bool | None = field(default=None)
    """Take the sampler's log-probabilities for the old ones instead of computing them again; None
    for where they agree: our own sampler in fp32, to 1e-5."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with ValueError."""
        super().__post_init__()
        self.check_above_0("num_iterations", "epsilon")
        self.check_above_0("epsilon_high", "overlong_cache", or_none=True)
        self.check_not_below_0("beta", "dynamic_sampling")
        if self.num_generations < self.least_generations:
            raise ValueError(
                f"`num_generations` is {self.num_generations}; {self.method} compares responses to "
                "one prompt with each other, write 2 or more"
            )
        if self.overlong_cache is not None and self.overlong_cache > self.max_completion_length:
            raise ValueError(
                f"`overlong_cache` {self.overlong_cache} is more than `max_completion_length` "
                f"{self.max_completion_length}"
            )
        self._settle_rollout()

    def _settle_rollout(self) -> None:
        """Refuse rollouts that are not whole optimizer steps of whole groups, with ValueError."""
        if self.generation_batch_size is not None and self.steps_per_generation is not None:
            raise ValueError(
                "`generation_batch_size` and `steps_per_generation` both say how large a rollout "
                "is; write one"
            )
        per_pass = self.per_device_train_batch_size * self.world_size
        per_step = per_pass * self.gradient_accumulation_steps
        passes = self.steps_per_generation
        size = self.generation_batch_size or (per_pass * passes if passes else per_step)
        if size < 1 or size % per_step:
            raise ValueError(
                f"a rollout of {size} responses is not a multiple of an optimizer step's, "
                f"{per_step} (per_device_train_batch_size x gradient_accumulation_steps x "
                "processes): TRL samples again within a step then, which is not done here"
            )
        if size % self.num_generations:
            raise ValueError(
                f"a rollout of {size} responses has no whole number of groups of "
                f"`num_generations` {self.num_generations}"
            )
        self._parts = size // per_step

    @property
    def group_size(self) -> int:
        """Responses to each prompt of a rollout."""
        return self.num_generations

    @property
    def epochs_per_rollout(self) -> int:
        """Passes over a rollout."""
        return self.num_iterations

    @property
    def parts_per_rollout(self) -> int:
        """Optimizer steps of each pass over a rollout."""
        return self._parts

    @property
    def overlong_tokens(self) -> int | None:
        """In how many tokens before the limit a long response loses up to 1; None for nothing."""
        return self.overlong_cache

    @property
    def rounds_of_sampling(self) -> int:
        """Times that groups without spread are replaced by fresh prompts, at most."""
        return self.dynamic_sampling

    @property
    def reuses_sampled_logprobs(self) -> bool:
        """Whether the sampler's log-probabilities are the old ones of the ratios."""
        if self.reuse_rollout_logprobs is not None:
            return self.reuse_rollout_logprobs
        return self.rollout_engine == "own" and not self.bf16
