"""Small tasks that PPO must learn, each with the figure it is judged by, and tiny models for them.

Not tests: tests/unit/rl runs the quick ones with one seed, tests/prove/test_ppo_learns.py all of
them with three, and what must not pass. Every task is solved by hand-made rewards on token ids, so
that what is learnt is known: TARGET wherever it pays, the last token of the prompt, an early end, a
distribution that can be written down.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from pipeline.rl.batch import Batch
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.losses import Losses
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.step_totals import StepTotals

PAD, EOS, TARGET, SECOND = 0, 1, 7, 9
BETA = 0.25  # of the task with a known optimum

Line = dict[str, float]


def tiny_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words t0 (padding), t1 (the end), t2, ..."""
    words = {f"t{number}": number for number in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="t0", eos_token="t1")


def tiny_llama(seed: int, vocabulary: int, **more: Any) -> LlamaForCausalLM:
    """Return a Llama of 2 layers, 64 wide, new."""
    torch.manual_seed(seed)
    shape = {
        **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "max_position_embeddings": 64},
    }
    ids = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": None}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **ids, **(shape | more)))


@dataclass(frozen=True)
class Task:
    """What is rewarded, with which settings, and from when on it counts as learnt.

    reward: of one response, from the ids of prompt and completion. is_learnt: of a rollout's line;
    None for a task that is judged at its end. within: rollouts. rank: of an adapter.
    """

    vocabulary: int
    prompts: list[list[int]]
    reward: Callable[[list[int], list[int]], float]
    settings: dict[str, Any]
    within: int
    is_learnt: Callable[[Line], bool] | None = None
    is_adapted: bool = False
    rank: int = 16


@dataclass
class Outcome:
    """lines: one a rollout. learnt_after: rollouts until it was, None if it was not."""

    trainer: Any
    lines: list[Line] = field(default_factory=list)
    learnt_after: int | None = None


def learn(task: Task, seed: int, folder: Path, **changes: Any) -> Outcome:
    """Train a tiny model on a task until it is learnt, or for as long as it may take."""
    module = start_of(task, seed)

    def reward(completion_ids: list[list[int]], asked: list[list[int]], **_: Any) -> list[float]:
        return [task.reward(a, c) for a, c in zip(asked, completion_ids, strict=True)]

    usual = {"kl_coef": 0.0, "lr_scheduler_type": "constant", "scoring_batch_size": 256}
    settings = {**usual, **task.settings, **changes}
    args = PPOConfig(**{**plain(folder), **settings, "seed": seed})
    size = args.per_device_train_batch_size * args.num_mini_batches
    args.total_episodes = task.within * size
    trainer = PPOTrainer(
        module,
        [reward],
        args,
        [{"input_ids": ids, "asked": ids} for ids in task.prompts],
        tiny_tokenizer(task.vocabulary),
    )
    return watch(trainer, task)


def start_of(task: Task, seed: int) -> Any:
    """Return the new tiny model that a task begins with."""
    module: Any = tiny_llama(seed, task.vocabulary)
    if task.is_adapted:
        from peft import LoraConfig, get_peft_model

        with torch.no_grad():  # a frozen random head could not say anything with confidence
            module.lm_head.weight.mul_(10)
        module = get_peft_model(module, LoraConfig(r=task.rank, target_modules="all-linear"))
    return module


def watch(trainer: Any, task: Task) -> Outcome:
    """Train until the task is learnt, or to the end."""
    outcome = Outcome(trainer)
    trainer.add_callback(_Watch(task, outcome))
    trainer.train()
    return outcome


def plain(folder: Path) -> dict[str, Any]:
    """Return settings without reports, checkpoints and progress bars, on the CPU."""
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return {"output_dir": str(folder), **quiet}


class _Watch(TrainerCallback):
    """Keeps a rollout's line, and stops when the task is learnt."""

    def __init__(self, task: Task, outcome: Outcome) -> None:
        self._task = task
        self._outcome = outcome

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "objective/scores" not in logs:
            return
        lines = self._outcome.lines
        lines.append(dict(logs))
        if self._task.is_learnt is not None and self._task.is_learnt(logs):
            self._outcome.learnt_after = len(lines)
            control.should_training_stop = True


def _share_of_target(_: list[int], given: list[int]) -> float:
    return sum(token == TARGET for token in given) / 8


def _early_end(_: list[int], given: list[int]) -> float:
    return -0.25 * abs(len(given) - 3)


def _scores_above(limit: float) -> Callable[[Line], bool]:
    return lambda line: line["objective/scores_after"] > limit


def _random_prompts(count: int, vocabulary: int, *, shortest: int, longest: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(17)

    def drawn(low: int, high: int, size: int) -> list[int]:
        return torch.randint(low, high, (size,), generator=generator).tolist()

    lengths = drawn(shortest, longest + 1, count)
    return [drawn(2, vocabulary, length) for length in lengths]


BANDIT = Task(
    vocabulary=32,
    prompts=[[3, 4]],
    reward=_share_of_target,
    settings={
        **{"per_device_train_batch_size": 32, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 8, "learning_rate": 1e-3},
    },
    within=60,
    is_learnt=_scores_above(0.9),
)

COPY = Task(
    vocabulary=16,
    prompts=_random_prompts(512, 16, shortest=2, longest=6),
    reward=lambda asked, given: float(given[0] == asked[-1]),
    settings={
        **{"per_device_train_batch_size": 64, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 1, "learning_rate": 2e-3},
    },
    within=150,
    is_learnt=_scores_above(0.9),
)

# Paid at the eighth token only, for the first one.
DELAYED_CREDIT = Task(
    vocabulary=16,
    prompts=[[3, 4]],
    reward=lambda _, given: float(given[0] == TARGET and len(given) == 8),
    settings={
        **{"per_device_train_batch_size": 32, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 8, "learning_rate": 1e-3},
    },
    within=120,
    is_learnt=_scores_above(0.9),
)

EARLY_END = Task(
    vocabulary=16,
    prompts=[[3, 4]],
    reward=_early_end,
    settings={
        **{"per_device_train_batch_size": 32, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 8, "learning_rate": 1e-3, "missing_eos_penalty": 1.0},
    },
    within=200,
    is_learnt=lambda line: line["objective/scores_after"] > -0.15 and line["eos_rate"] > 0.95,
)

# What PPO with a KL penalty tends to is known: the reference times e^(reward / BETA).
KNOWN_OPTIMUM = Task(
    vocabulary=16,
    prompts=[[3, 4]],
    reward=lambda _, given: {TARGET: 1.0, SECOND: 0.5}.get(given[0], 0.0),
    settings={
        **{"per_device_train_batch_size": 128, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 1, "learning_rate": 5e-4, "kl_coef": BETA},
    },
    within=150,
)

# The policy stays as it is.
CRITIC_ALONE = Task(
    vocabulary=16,
    prompts=_random_prompts(512, 16, shortest=2, longest=6),
    reward=lambda asked, _: 0.3 * asked[-1] - 1.0,
    settings={
        **{"per_device_train_batch_size": 64, "num_mini_batches": 2, "num_ppo_epochs": 4},
        **{"max_completion_length": 1, "learning_rate": 3e-3, "cliprange_value": None},
        "critic_warmup_rollouts": 1000,
    },
    within=20,
    is_learnt=lambda line: line["value/explained_var"] > 0.9,
)

SHARED_BANDIT = Task(
    vocabulary=32,
    prompts=[[3, 4]],
    reward=_share_of_target,
    settings={
        **{"per_device_train_batch_size": 32, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 8, "learning_rate": 5e-3},
        **{"layout": "shared_lora", "activation_checkpointing": True},
    },
    within=60,
    is_learnt=_scores_above(0.9),
    is_adapted=True,
)


@torch.no_grad()
def first_token(causal: PreTrainedModel, prompt: list[int]) -> torch.Tensor:
    """Return the distribution (V,) of the first token of a response, in fp64; padding cannot be."""
    logits = causal(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    logits[PAD] = -torch.inf
    return logits.softmax(-1)


@dataclass(frozen=True)
class Distance:
    """From a policy to the optimum of KNOWN_OPTIMUM: total variation, and both KLs to the start."""

    total_variation: float
    kl: float
    optimal_kl: float


def distance_to_optimum(
    outcome: Outcome, *, coefficient: float = BETA, of: Literal["policy", "reference"] = "policy"
) -> Distance:
    """Measure a policy that was trained on KNOWN_OPTIMUM.

    of: whose divergence from the other the coefficient is of.
    """
    actor, (prompt,) = outcome.trainer.model, KNOWN_OPTIMUM.prompts
    policy = first_token(actor.causal, prompt)
    with actor.reference() as reference:
        start = first_token(reference, prompt)
    rewards = torch.zeros_like(start)
    rewards[TARGET], rewards[SECOND] = 1.0, 0.5
    if of == "policy":
        optimum = torch.softmax(start.log() + rewards / coefficient, -1)
    else:
        optimum = _nearest_to_reference(start, rewards, coefficient)
    variation = float((policy - optimum).abs().sum()) / 2
    return Distance(variation, _kl(policy, start), _kl(optimum, start))


def _nearest_to_reference(
    start: torch.Tensor, rewards: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """Return the policy with the most E[reward] - coefficient KL(start, policy), (V,).

    Where its slope is the same for each token: coefficient start / (level - reward), with the level
    (by bisection) at which this sums to 1.
    """
    low, high = float(rewards.max()), float(rewards.max()) + coefficient
    for _ in range(100):
        level = (low + high) / 2
        total = float((coefficient * start / (level - rewards)).sum())
        low, high = (level, high) if total > 1 else (low, level)
    return coefficient * start / (high - rewards)


def _kl(of: torch.Tensor, to: torch.Tensor) -> float:
    terms = torch.where(of > 0, of * (of / to).log(), 0)
    found = float(terms.nansum())
    assert math.isfinite(found)
    return found


def summed_send_back(
    losses: Losses, batch: Batch, totals: StepTotals, *, trains_policy: bool, is_first: bool
) -> torch.Tensor:
    """Do what `Losses.send_back` must not do in the layout `shared_lora`.

    Both losses are sent back at once, after the critic's adapter was switched to: PEFT's switch has
    taken the policy's adapter out of what is trained by then.
    """
    assert trains_policy
    hidden = losses.actor.policy_hidden(batch.sequences)
    gradient, loss = losses._send_through_head(hidden, batch, totals, is_first=is_first)
    with losses.actor.as_critic():
        values = losses.actor.values(batch.sequences)
        value_loss = losses._value_loss(values, batch, totals)
        torch.autograd.backward([hidden, value_loss], [gradient, torch.ones_like(value_loss)])
    return loss + value_loss.detach()
