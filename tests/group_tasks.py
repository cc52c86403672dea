"""The tasks of ppo_tasks.py for methods without a critic, and one whose responses have a tool's.

Not tests: tests/prove/test_groups_learn.py runs them, with three seeds, and what must not pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.rloo import RLOOTrainer
from pipeline.rl.sampler import Completion
from tests.ppo_tasks import EOS, TARGET, Outcome, Task, plain, start_of, tiny_tokenizer, watch

GROUP = 8
_ANSWER, _LONGEST = 9, 12  # what the tool of CALL answers with, and how often at most
_OF_PPO = ("num_mini_batches", "num_ppo_epochs", "kl_coef", "layout", "cliprange_value")


@dataclass(frozen=True)
class Method:
    """A trainer without a critic, and its settings."""

    config: type[Any] = GRPOConfig
    trainer: type[Any] = GRPOTrainer
    settings: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "grpo": Method(settings={"loss_type": "grpo"}),
    "rloo": Method(RLOOConfig, RLOOTrainer),
    "dapo": Method(settings={"epsilon_high": 0.28, "dynamic_sampling": 1}),
    "dr_grpo": Method(settings={"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "gspo": Method(settings={"importance_sampling_level": "sequence", "epsilon": 0.05}),
    "cispo": Method(settings={"loss_type": "cispo", "epsilon_high": 5.0}),
    "reinforce": Method(settings={"advantage_estimator": "reinforce"}),
}


def learn_in_groups(
    task: Task, method: Method, seed: int, folder: Path, *, sampler: Any = None, **changes: Any
) -> Outcome:
    """Train a tiny model on a task until it is learnt, or for as long as it may take.

    As many responses a rollout, passes and steps as PPO has; its coefficient of KL is `beta`.
    """
    module = start_of(task, seed)
    given = task.settings
    size = given["per_device_train_batch_size"] * given.get("num_mini_batches", 1)
    usual = {
        **{"lr_scheduler_type": "constant", "scoring_batch_size": 256, "num_generations": GROUP},
        **{"generation_batch_size": size, "num_iterations": given.get("num_ppo_epochs", 1)},
        "beta": given.get("kl_coef", 0.0),
    }
    shared = {name: value for name, value in given.items() if name not in _OF_PPO}
    settings = {**usual, **shared, **method.settings, **changes}
    args = method.config(
        **{**plain(folder), **settings, "seed": seed, "total_episodes": task.within * size}
    )

    def reward(completion_ids: list[list[int]], asked: list[list[int]], **_: Any) -> list[float]:
        return [task.reward(a, c) for a, c in zip(asked, completion_ids, strict=True)]

    trainer = method.trainer(
        module,
        reward,
        args,
        [{"input_ids": ids, "asked": ids} for ids in task.prompts],
        processing_class=tiny_tokenizer(task.vocabulary),
    )
    if sampler is not None:
        trainer.collector.sampler = sampler(trainer.collector.sampler)
    return watch(trainer, task)


class Calling:
    """A policy with a tool: TARGET calls it, and it answers with one token, 1 to 12 times.

    How often depends on the row alone, so that no place in a response tells where the answer ends.
    shows: whether the tool's tokens are told from the policy's own; a control does not.
    """

    def __init__(self, sampler: Any, *, shows: bool = True) -> None:
        self._sampler = sampler
        self._shows = shows

    def __call__(
        self, module: Any, prompts: Sequence[list[int]], *, keys: Sequence[int], seed: int, **_: Any
    ) -> list[Completion]:
        first = self._sampler(module, prompts, keys=keys, seed=seed)
        drawn = [np.random.default_rng((seed, key)).integers(1, _LONGEST + 1) for key in keys]
        answers = [[_ANSWER] * int(length) for length in drawn]
        asked = [
            [*prompt, *one.token_ids, *answer] if one.token_ids == [TARGET] else [*prompt, EOS]
            for prompt, one, answer in zip(prompts, first, answers, strict=True)
        ]
        # Other keys: the second token of a row is drawn by other numbers than its first.
        second = self._sampler(module, asked, keys=[2**41 + key for key in keys], seed=seed)
        return [
            self._joined(one, answer, other) if one.token_ids == [TARGET] else one
            for one, answer, other in zip(first, answers, second, strict=True)
        ]

    def _joined(self, call: Completion, answer: list[int], end: Completion) -> Completion:
        own = [True, *[False] * len(answer), True]
        assert call.logprobs is not None
        assert end.logprobs is not None
        logprobs = [*call.logprobs, *[0.0] * len(answer), *end.logprobs]
        token_ids = [*call.token_ids, *answer, *end.token_ids]
        return Completion(token_ids, end.has_eos, logprobs, own if self._shows else None)


def _called_and_ended(_: list[int], given: list[int]) -> float:
    """Pay a call after whose answer the policy ends; 1 in the mean, more where the tool wrote more.

    So the tool's tokens come with higher rewards, and whoever learns from them writes them, too.
    """
    has_ended = given[0] == TARGET and given[-1] == EOS
    return 2 * (len(given) - 2) / (_LONGEST + 1) if has_ended else 0.0


CALL = Task(
    vocabulary=16,
    prompts=[[3, 4]],
    reward=_called_and_ended,
    settings={
        **{"per_device_train_batch_size": 32, "num_mini_batches": 2, "num_ppo_epochs": 2},
        **{"max_completion_length": 1, "learning_rate": 1e-3},
    },
    within=80,
    is_learnt=lambda line: line["objective/scores_after"] > 0.85,
)
