"""What taking the best of n responses would have given: the yardstick for reinforcement learning.

Best-of-n needs no training and moves log n - (n - 1) / n nats away from where it samples (Stiennon
et al. 2020; exact where scores do not tie), so that both can be compared at equal KL. Its means are
over all subsets of n of the N responses at hand, not over one choice of them (Nakano et al. 2021).
A response that no reward scores (None) is never chosen, and no mean has it.
"""

from __future__ import annotations

import json
import math
from itertools import compress
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from eval.statistics.intervals import mean_interval
from pipeline.files.names import BEST_OF_N
from pipeline.rewards.responses import Responses
from pipeline.rl.actor_critic import evaluating
from pipeline.rl.experience import kl_per_sequence
from pipeline.rl.watch import gold_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eval.task import Task
    from pipeline.rl.collector import Prompt
    from pipeline.rl.trainer import PPOTrainer

_KEYS = 2**40  # rows of no rollout


def measured(
    trainer: PPOTrainer,
    prompts: Sequence[Prompt],
    tasks: Mapping[str, Task],
    out: Path,
    *,
    most: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, float]:
    """Sample from reference and policy, write best_of_n.json, return the policy's figures.

    prompts: that training never saw. most: responses of the reference to each.
    """
    total = len(prompts) * (most + 1)
    repeated = [prompt for prompt in prompts for _ in range(most)]
    with trainer.model.reference() as reference:
        theirs = _scored(trainer, reference, repeated, tasks, lambda n: on_progress(n, total))
    rows, _ = trainer.collector.collect(
        list(prompts),
        list(range(len(prompts))),
        first=2 * _KEYS,
        prompt_numbers=list(range(len(prompts))),
    )
    on_progress(total, total)
    own = _judged(trainer, prompts, tasks, [(r.completion_ids, r.has_eos) for r in rows])
    unscored = sum(math.isnan(score) for score in (*theirs[0], *own[0]))
    if all(map(math.isnan, theirs[0])) or all(map(math.isnan, own[0])):
        return {"held_out_unscored": unscored}  # nothing to compare: no reward says a number
    found = {
        "prompts": len(prompts),
        "unscored": unscored,
        "rows": [_row(theirs, n, most) for n in _counts(most)],
        "policy": {"kl": fmean(kl_per_sequence(rows)), **_summary(*own)},
    }
    (out / BEST_OF_N).write_text(json.dumps(found, indent=1), encoding="utf-8")
    policy = found["policy"]
    kept = {"kl": policy["kl"], "held_out_score": policy["score"]}
    kept |= {"held_out_unscored": unscored} if unscored else {}
    interval = mean_interval(kl_per_sequence(rows))
    if interval is not None:
        kept |= {"kl_low": interval.low, "kl_high": interval.high}
    return kept | ({"held_out_gold": policy["gold"]} if policy["gold"] is not None else {})


def expected_best(scores: Sequence[float], values: Sequence[float], n: int) -> float:
    """Return the mean value of the response with the highest score of n, over all subsets of n.

    scores, values: of the N >= n responses to one prompt. Those with equal scores share their mean.
    A score that is NaN is none: such a response is below all others, and subsets of nothing else
    are left out. One response has a score at least.
    """
    order = [i for i, score in enumerate(scores) if not math.isnan(score)]
    order.sort(key=scores.__getitem__)
    shared: dict[float, list[float]] = {}
    for i in order:
        shared.setdefault(scores[i], []).append(values[i])
    below = len(scores) - len(order)
    ways = [math.comb(below + place, n - 1) for place in range(len(order))]
    ordered = [fmean(shared[scores[i]]) for i in order]
    return sum(way * value for way, value in zip(ways, ordered, strict=True)) / sum(ways)


def _counts(most: int) -> list[int]:
    found = [1]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found


Judged = tuple[list[float], list[float | None], list[list[float]], list[str]]


def _scored(
    trainer: PPOTrainer,
    module: Any,
    prompts: Sequence[Prompt],
    tasks: Mapping[str, Task],
    on_progress: Callable[[int], None],
) -> Judged:
    collector = trainer.collector
    with torch.no_grad(), evaluating(module), collector.autocast():
        completions = collector.sampler(
            module,
            [prompt.ids for prompt in prompts],
            keys=[_KEYS + number for number in range(len(prompts))],
            seed=trainer.args.seed,
            on_progress=on_progress,
        )
    written = [(each.token_ids, each.has_eos) for each in completions]
    return _judged(trainer, prompts, tasks, written)


def _judged(
    trainer: PPOTrainer,
    prompts: Sequence[Prompt],
    tasks: Mapping[str, Task],
    written: Sequence[tuple[list[int], bool]],
) -> Judged:
    """Return scores (the weighted sum), gold scores, each term's scores, and the terms' names."""
    names = sorted({name for prompt in prompts for name in prompt.columns})
    responses = Responses.decoded(
        trainer.collector.tokenizer,
        [prompt.shown for prompt in prompts],
        prompt_ids=[prompt.ids for prompt in prompts],
        completion_ids=[ids for ids, _ in written],
        has_eos=[has_eos for _, has_eos in written],
        columns={name: [prompt.columns.get(name) for prompt in prompts] for name in names},
        stop=trainer.args.stop_strings or (),
    )
    with torch.no_grad(), evaluating(trainer.model):
        raw = trainer.rewards.raw(responses)
    scores = trainer.rewards.weighted(raw).tolist()
    texts = [responses.text(row) for row in range(len(responses))]
    terms = [term.name for term in trainer.rewards.terms]
    return scores, gold_scores(tasks, prompts, texts), raw.tolist(), terms


def _summary(
    scores: list[float], gold: list[float | None], raw: list[list[float]], names: list[str]
) -> dict[str, Any]:
    is_kept = [not math.isnan(score) for score in scores]
    scores, gold = list(compress(scores, is_kept)), list(compress(gold, is_kept))
    raw = list(compress(raw, is_kept))
    return {"score": fmean(scores), **_gold([each for each in gold if each is not None])} | {
        "scores": _by_term([fmean_or_nan(column) for column in zip(*raw, strict=True)], names)
    }


def _row(judged: Judged, n: int, most: int) -> dict[str, Any]:
    """Return best-of-n's expected score, gold score and terms, over prompts."""
    scores, gold, raw, names = judged
    groups = [slice(begin, begin + most) for begin in range(0, len(scores), most)]

    def best(values: Sequence[float | None]) -> list[float]:
        found: list[float] = []
        for group in groups:
            of_scored = [
                value
                for score, value in zip(scores[group], values[group], strict=True)
                if not math.isnan(score)
            ]
            if of_scored and all(v is not None and v == v for v in of_scored):
                given = [math.nan if value is None else value for value in values[group]]
                found.append(expected_best(scores[group], given, n))
        return found

    columns = [best(column) for column in zip(*raw, strict=True)]
    return {
        "n": n,
        "kl": math.log(n) - (n - 1) / n,
        "score": fmean(best(scores)),
        "scores": _by_term([fmean_or_nan(column) for column in columns], names),
        **_gold(best(gold)),
    }


def _gold(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"gold": None, "gold_low": None, "gold_high": None}
    interval = mean_interval(values)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {"gold": fmean(values), "gold_low": low, "gold_high": high}


def _by_term(means: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    return {name: mean for name, mean in zip(names, means, strict=True) if mean == mean}


def fmean_or_nan(values: Sequence[float]) -> float:
    """Return the mean of the numbers that are none of NaN; NaN of none."""
    kept = [value for value in values if value == value]
    return fmean(kept) if kept else math.nan
