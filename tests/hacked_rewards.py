"""Rewards that are hacked on purpose, an honest one, and tiny policies that learn from them.

Not tests: tests/unit/rl runs one of them, tests/prove/test_guards_stop.py all, with several seeds.
Every prompt is a few tokens; what a policy then writes is known: as long as it may, the same for
all, more and more of what the proxy pays and gold does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.rewards.terms import function_term
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.rloo import RLOOTrainer
from tests.ppo_tasks import TARGET, plain, tiny_llama, tiny_tokenizer

VOCABULARY = 16
PROMPTS = [[first, second] for first in range(2, 10) for second in range(2, 10)]
METHODS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ppo": (PPOConfig, PPOTrainer, {"num_ppo_epochs": 2, "num_mini_batches": 1, "kl_coef": 0.0}),
    "grpo": (GRPOConfig, GRPOTrainer, {"num_generations": 4, "num_iterations": 2, "beta": 0.0}),
    "rloo": (RLOOConfig, RLOOTrainer, {"num_generations": 4, "num_iterations": 2, "beta": 0.0}),
}


def as_long_as_it_may(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(ids) / 10 for ids in completion_ids]


def one_word(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [sum(token == TARGET for token in ids) / 8 for ids in completion_ids]


def some_of_the_word(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Gold: a response with two of the word is best; one with more is worse and worse."""
    counts = [sum(token == TARGET for token in ids) for ids in completion_ids]
    return [1 - abs(count - 2) / 4 for count in counts]


def last_token_first(completion_ids: list[list[int]], asked: list[list[int]], **_: Any) -> Any:
    """Honest: each prompt has an answer of its own."""
    return [float(ids[0] == prompt[-1]) for ids, prompt in zip(completion_ids, asked, strict=True)]


@dataclass(frozen=True)
class Hack:
    """A reward, what is watched beside it, and the sign that training on it shows."""

    sign: str
    reward: Callable[..., Any]
    length: int
    held_out: Callable[..., Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


HACKS = (
    Hack("length", as_long_as_it_may, 40),
    Hack("cut_off", as_long_as_it_may, 24),
    Hack("repetition", one_word, 8),
    Hack("equal_answers", one_word, 8),
    Hack("score_jump", one_word, 8, settings={"learning_rate": 3e-3}),
    Hack("over_optimised", one_word, 8, some_of_the_word, settings={"learning_rate": 5e-4}),
)


def trainer_of(
    hack: Hack,
    method: str,
    seed: int,
    folder: Path,
    *,
    rollouts: int,
    on_sign: Any = None,
    **settings: Any,
) -> Any:
    """Return a trainer of a new tiny policy on such a reward."""
    config, trainer, usual = METHODS[method]
    of_all = {
        **{"per_device_train_batch_size": 32, "max_completion_length": hack.length},
        **{"learning_rate": 2e-3, "lr_scheduler_type": "constant", "scoring_batch_size": 256},
    }
    args = config(
        **{**plain(folder), **of_all, **usual, **hack.settings, **settings},
        seed=seed,
        total_episodes=32 * rollouts,
    )
    terms = [function_term(hack.reward, "paid", 1.0)]
    if hack.held_out is not None:
        terms.append(function_term(hack.held_out, "judge", 0.0))
    rows = [{"input_ids": ids, "asked": ids, "reference": f"t{ids[-1]}"} for ids in PROMPTS]
    tokenizer = tiny_tokenizer(VOCABULARY)
    told = {"processing_class": tokenizer, "on_sign": on_sign}
    return trainer(tiny_llama(seed, VOCABULARY), terms, args, rows, **told)
