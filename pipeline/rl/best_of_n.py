"""Best-of-n: what choosing the best of n responses would give, the yardstick for RL.

Best-of-n needs no training and moves log n - (n - 1) / n nats away from where it samples (Stiennon
et al. 2020; exact where scores do not tie), so that both can be compared at equal KL. Its means are
over all subsets of n of the N responses at hand, not over one choice of them (Nakano et al. 2021).
A response that no reward scores (None) is never chosen, and no mean has it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import compress
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from eval.statistics.intervals import mean_interval
from pipeline.files.names import BEST_OF_N
from pipeline.rl.actor import evaluating
from pipeline.rl.rollout import kl_per_sequence
from pipeline.rl.sampler import Completion
from pipeline.rl.watch import gold_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eval.task import Task
    from pipeline.rl.collector import Collector
    from pipeline.rl.prompts import Prompt

_KEYS = 2**40  # rows of no rollout


def compare_with_best_of_n(
    collector: Collector,
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
    with collector.actor.reference() as reference:
        theirs = _sample(collector, reference, repeated, tasks, lambda n: on_progress(n, total))
    rows, _ = collector.collect(
        list(prompts),
        list(range(len(prompts))),
        keys=[2 * _KEYS + number for number in range(len(prompts))],
        prompt_numbers=list(range(len(prompts))),
    )
    on_progress(total, total)
    completions = [
        Completion(row.completion_ids, row.has_eos, None, conversation=row.conversation)
        for row in rows
    ]
    own = _judge(collector, prompts, tasks, completions)
    unscored = sum(math.isnan(score) for score in (*theirs.scores, *own.scores))
    if all(map(math.isnan, theirs.scores)) or all(map(math.isnan, own.scores)):
        return {"held_out_unscored": unscored}  # nothing to compare: no reward says a number
    policy = {"kl": fmean(kl_per_sequence(rows)), **_summary(own)}
    record = {
        "prompts": len(prompts),
        "unscored": unscored,
        "rows": [_row(theirs, n, most) for n in _counts(most)],
        "policy": policy,
    }
    (out / BEST_OF_N).write_text(json.dumps(record, indent=1), encoding="utf-8")
    figures = {"kl": policy["kl"], "held_out_score": policy["score"]}
    figures |= {"held_out_unscored": unscored} if unscored else {}
    interval = mean_interval(kl_per_sequence(rows))
    if interval is not None:
        figures |= {"kl_low": interval.low, "kl_high": interval.high}
    return figures | ({"held_out_gold": policy["gold"]} if policy["gold"] is not None else {})


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
    """Return 1, 2, 4, ... up to `most`."""
    counts = [1]
    while counts[-1] * 2 <= most:
        counts.append(counts[-1] * 2)
    return counts


@dataclass(frozen=True)
class _Judged:
    """What was thought of N responses: the weighted sum of the rewards, gold scores, each term's.

    terms: (N, K), of the K `names`. NaN and None where there is no score.
    """

    scores: list[float]
    gold: list[float | None]
    terms: list[list[float]]
    names: tuple[str, ...]


def _sample(
    collector: Collector,
    module: Any,
    prompts: Sequence[Prompt],
    tasks: Mapping[str, Task],
    on_progress: Callable[[int], None],
) -> _Judged:
    with torch.no_grad(), evaluating(module), collector.autocast():
        completions = collector.sampler(
            module,
            [prompt.ids for prompt in prompts],
            keys=[_KEYS + number for number in range(len(prompts))],
            seed=collector.args.seed,
            on_progress=on_progress,
        )
    return _judge(collector, prompts, tasks, completions)


def _judge(
    collector: Collector,
    prompts: Sequence[Prompt],
    tasks: Mapping[str, Task],
    completions: Sequence[Completion],
) -> _Judged:
    """Score completions."""
    responses = collector.decode(prompts, completions)
    with torch.no_grad(), evaluating(collector.actor):
        raw = collector.rewards.raw(responses)
    texts = [responses.text(row) for row in range(len(responses))]
    return _Judged(
        collector.rewards.weigh(raw).tolist(),
        gold_scores(tasks, prompts, texts),
        raw.tolist(),
        collector.rewards.names,
    )


def _summary(judged: _Judged) -> dict[str, Any]:
    """Return the means of the responses that have a score."""
    is_scored = [not math.isnan(score) for score in judged.scores]
    gold = [score for score in compress(judged.gold, is_scored) if score is not None]
    terms = zip(*compress(judged.terms, is_scored), strict=True)
    return {
        "score": fmean(compress(judged.scores, is_scored)),
        **_gold(gold),
        "scores": _by_term([_mean_of_numbers(column) for column in terms], judged.names),
    }


def _row(judged: _Judged, n: int, most: int) -> dict[str, Any]:
    """Return best-of-n's expected score, gold score and terms, over prompts."""
    scores = judged.scores
    groups = [slice(begin, begin + most) for begin in range(0, len(scores), most)]

    def best(values: Sequence[float | None]) -> list[float]:
        """Return the expected value of each prompt where all scored responses have one."""
        expected: list[float] = []
        for group in groups:
            of_scored = [
                value
                for score, value in zip(scores[group], values[group], strict=True)
                if not math.isnan(score)
            ]
            if of_scored and all(v is not None and v == v for v in of_scored):
                numbers = [math.nan if value is None else value for value in values[group]]
                expected.append(expected_best(scores[group], numbers, n))
        return expected

    columns = [best(column) for column in zip(*judged.terms, strict=True)]
    return {
        "n": n,
        "kl": math.log(n) - (n - 1) / n,
        "score": fmean(best(scores)),
        "scores": _by_term([_mean_of_numbers(column) for column in columns], judged.names),
        **_gold(best(judged.gold)),
    }


def _gold(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"gold": None, "gold_low": None, "gold_high": None}
    interval = mean_interval(values)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {"gold": fmean(values), "gold_low": low, "gold_high": high}


def _by_term(means: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    return {name: mean for name, mean in zip(names, means, strict=True) if mean == mean}


def _mean_of_numbers(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    numbers = [value for value in values if value == value]
    return fmean(numbers) if numbers else math.nan
