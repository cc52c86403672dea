"""Evaluation during a training: held-out prompts, answered and scored as rollouts are.

It changes nothing of the training: what is drawn for a prompt depends on the seed and its number
alone, so that every evaluation draws the same numbers; the states of all random generators are put
back; rewards are the weighted sums of their terms, whose running moments it leaves alone.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers.trainer_utils import set_seed

from pipeline.errors import PosttrainError
from pipeline.rewards.responses import source_in
from pipeline.rl.policy_tools import tool_metrics
from pipeline.rl.rollout import (
    ScoredResponses,
    gap_per_sequence,
    kl_per_sequence,
    sampling_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from transformers import TrainerState

    from pipeline.rewards.responses import Logged
    from pipeline.rl.collector import Collector
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import OnEvaluation, ScoredRow

_KEYS = 3 * 2**40  # rows of no rollout, nor of best-of-n


def evaluate_sets(
    collector: Collector, sets: Mapping[str, Sequence[Prompt]], *, prefix: str, **how: Any
) -> dict[str, float]:
    """Return what the policy does on each set of prompts, under `prefix`, and the set's name.

    how: as `evaluate_prompts` takes it.
    """
    metrics: dict[str, float] = {}
    for name, prompts in sets.items():
        begin = "_".join(filter(None, (prefix, name)))
        found = evaluate_prompts(collector, prompts, **how)
        metrics |= {f"{begin}_{key}": value for key, value in found.items()}
    return metrics


def evaluate_prompts(
    collector: Collector,
    prompts: Sequence[Prompt],
    *,
    at_once: int,
    state: TrainerState,
    on_evaluation: OnEvaluation | None = None,
) -> dict[str, float]:
    """Return what the policy does on prompts that it is not trained on.

    `objective/scores` is the mean of the weighted sum of the rewards, before any normalisation,
    clip and rule of the end, over the responses that have one. at_once: prompts per process that
    are answered together. state: for reward functions. on_evaluation: adds metrics of its own.
    Raises PosttrainError if no response has a reward.
    """
    began = time.perf_counter()
    with _restored_after(collector):
        asking = replace(collector, asks_teacher=True)
        rows, logged = _answer(asking, prompts, at_once, state)
    rewards = collector.rewards
    answered = [prompts[row.prompt] for row in rows]
    raw = torch.stack([row.rewards for row in rows])  # (B, K)
    all_scores = rewards.weigh(raw)
    scores = all_scores[~all_scores.isnan()]
    if not len(scores):
        message = "no response to the held-out prompts got a reward"
        raise PosttrainError("evaluation", message, "do all rewards return None?")
    sources = [source_in(prompt.columns) for prompt in answered]
    of_scores = {
        "objective/scores": float(scores.mean()),
        "objective/scores_std": float(scores.std(correction=0)),
        "rewards/unscored": float(len(rows) - len(scores)),
    }
    gaps = gap_per_sequence(rows)
    metrics = {
        **(of_scores if rewards.terms else {}),
        "objective/kl": fmean(kl_per_sequence(rows)),
        **({"teacher/kl": fmean(gaps)} if gaps else {}),
        **sampling_metrics(rows),
        **tool_metrics(rows, answered),
        **rewards.term_metrics(raw, logged, sources),
    }
    if on_evaluation is not None:
        metrics |= on_evaluation(ScoredResponses(answered, rows, all_scores, rewards.names))
    return metrics | {"runtime": time.perf_counter() - began}


def _answer(
    collector: Collector, prompts: Sequence[Prompt], at_once: int, state: TrainerState
) -> tuple[list[ScoredRow], list[Logged]]:
    """Return the scored responses in the prompts' order, on every process all of them."""
    args = collector.args
    own = range(args.process_index, len(prompts), args.world_size)
    rows: list[ScoredRow] = []
    logged: list[Logged] = []
    for begin in range(0, len(own), at_once):
        numbers = list(own[begin : begin + at_once])
        part, of_part = collector.collect(
            [prompts[number] for number in numbers],
            numbers,
            keys=[_KEYS + number for number in numbers],
            prompt_numbers=numbers,
            state=state,
        )
        rows += part
        logged.append(of_part)
    return sorted(gather_object(rows), key=lambda row: row.number), gather_object(logged)


@contextmanager
def _restored_after(collector: Collector) -> Generator[None]:
    """Put random generators and the rollout's clocks back to where they were.

    Only rewards of the user's and other engines than our own draw from these generators.
    """
    seconds = dict(collector.seconds)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    device = collector.args.device
    others = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(others, device_type="cuda" if not others else device.type):
        set_seed(collector.args.seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            collector.seconds.update(seconds)
