"""Evaluation during a training by PPO: held-out prompts, answered and scored as rollouts are.

It changes nothing of the training: what is drawn for a prompt depends on the seed and its number
alone, so that every evaluation draws the same numbers; the states of all random generators are put
back; rewards are the weighted sums of their terms, whose running moments it leaves alone.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers.trainer_utils import set_seed

from eval.model import positions_of
from pipeline.errors import PosttrainError
from pipeline.rewards.responses import source_in
from pipeline.rl import checkpoint
from pipeline.rl.experience import kl_per_sequence, of_sampling
from pipeline.rl.prompts import prompts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from pipeline.rewards.responses import Logged
    from pipeline.rl.collector import Prompt
    from pipeline.rl.experience import ScoredRow
    from pipeline.rl.trainer import PPOTrainer

    OnEvaluation = Callable[[list[ScoredRow], Sequence[Prompt]], dict[str, float]]

_KEYS = 3 * 2**40  # rows of no rollout, nor of best-of-n


class EvaluatesPrompts:
    """Mixed into PPOTrainer: `evaluate`, and what `eval_strategy` does by it.

    eval_prompts: by what their metrics' names begin with after the prefix. on_evaluation: called
    with an evaluation's rows and their prompts; what it returns is added to the metrics.
    """

    eval_prompts: Mapping[str, Sequence[Prompt]]
    on_evaluation: OnEvaluation | None = None

    def prompts_to_evaluate(self: Any, data: Any) -> dict[str, list[Prompt]]:
        """Return the prompts of a data set, or of several by name; none of None."""
        if data is None:
            return {}
        positions = positions_of(self.model.causal.config)
        return {
            name: prompts_of(rows, self.processing_class, self.args, positions)
            for name, rows in (data if isinstance(data, dict) else {"": data}).items()
        }

    def evaluate(
        self: Any,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Answer held-out prompts and return how good and how far away the policy is; log it.

        Raises ValueError where there are no prompts to evaluate on.
        """
        given = self.eval_prompts
        sets = given if eval_dataset is None else self.prompts_to_evaluate(eval_dataset)
        if not sets:
            raise ValueError("there are no prompts to evaluate on; give an `eval_dataset`")
        metrics: dict[str, float] = {}
        for name, prompts in sets.items():
            metrics |= evaluated(self, prompts, "_".join(filter(None, (metric_key_prefix, name))))
        self.log(metrics)
        on_evaluate = self.callback_handler.on_evaluate
        self.control = on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _load_best_model(self: Any) -> None:
        """Take policy and critic from the best checkpoint."""
        checkpoint.load_weights(self, Path(str(self.state.best_model_checkpoint)))


def evaluated(trainer: PPOTrainer, prompts: Sequence[Prompt], prefix: str) -> dict[str, float]:
    """Return what the policy does on prompts, each metric's name after `prefix` and a line.

    `objective/scores` is the mean of the weighted sum of the rewards, before any normalisation,
    clip and rule of the end, over the responses that have one. Raises PosttrainError if none has.
    """
    began = time.perf_counter()
    with _left_as_it_was(trainer):
        rows, logged = _answered(trainer, prompts)
    asked = [prompts[row.prompt] for row in rows]
    raw = torch.stack([row.rewards for row in rows])
    scores = trainer.rewards.weighted(raw)
    scores = scores[~scores.isnan()]
    if not len(scores):
        message = "no response to the held-out prompts got a reward"
        raise PosttrainError("evaluation", message, "do all rewards return None?")
    sources = [source_in(prompt.columns) for prompt in asked]
    found = {
        "objective/scores": float(scores.mean()),
        "objective/scores_std": float(scores.std(correction=0)),
        "objective/kl": fmean(kl_per_sequence(rows)),
        **of_sampling(rows),
        **trainer.rewards.term_metrics(raw, logged, sources),
        "rewards/unscored": float(len(rows) - len(scores)),
    }
    if trainer.on_evaluation is not None:
        found |= trainer.on_evaluation(rows, asked)
    named = {f"{prefix}_{name}": value for name, value in found.items()}
    return named | {f"{prefix}_runtime": time.perf_counter() - began}


def _answered(
    trainer: PPOTrainer, prompts: Sequence[Prompt]
) -> tuple[list[ScoredRow], list[Logged]]:
    """Return the scored answers in the prompts' order, on every process all of them.

    As many at a time as a rollout has, which fit into memory; or `per_device_eval_batch_size`.
    """
    numbers = range(trainer.args.process_index, len(prompts), trainer.args.world_size)
    share = trainer.rollout_size // trainer.args.world_size
    at_once = max(share, trainer.args.per_device_eval_batch_size)
    rows: list[ScoredRow] = []
    logged: list[Logged] = []
    for begin in range(0, len(numbers), at_once):
        some = list(numbers[begin : begin + at_once])
        answered, said = trainer.collector.collect(
            [prompts[number] for number in some],
            some,
            first=_KEYS,
            prompt_numbers=some,
            state=trainer.state,
        )
        rows += answered
        logged.append(said)
    return sorted(gather_object(rows), key=lambda row: row.number), gather_object(logged)


@contextmanager
def _left_as_it_was(trainer: PPOTrainer) -> Generator[None]:
    """Put random generators and the rollout's clocks back to where they were.

    Only rewards of the user's and other engines than our own draw from these generators.
    """
    seconds = dict(trainer.collector.seconds)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    device = trainer.args.device
    others = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(others, device_type="cuda" if not others else device.type):
        set_seed(trainer.args.seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            trainer.collector.seconds.update(seconds)
