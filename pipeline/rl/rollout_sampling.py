"""The responses of one rollout, sampled by all processes: groups of them to each prompt.

Groups whose scores have no spread teach nothing by comparison; where asked, they are replaced by
fresh prompts (dynamic sampling; Yu et al. 2025, "DAPO", section 3.2), so that how many prompts a
run has drawn depends on what it sampled: RlState keeps the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from pipeline.rl import core
from pipeline.rl.sampling_order import draw_prompts, share_of_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerState

    from pipeline.rewards.responses import Logged
    from pipeline.rl.collector import Collector
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import ScoredRow
    from pipeline.rl.state import RlState


@dataclass(frozen=True)
class Sampled:
    """A rollout's rows, in order, what reward functions logged, and what became of groups."""

    rows: list[ScoredRow]
    logged: list[Logged]
    metrics: dict[str, float]


def sample_rollout(
    collector: Collector, prompts: Sequence[Prompt], state: RlState, trainer: TrainerState
) -> Sampled:
    """Return the next rollout, on every process all of it; count its prompts in `state`."""
    args = collector.args
    size = args.group_size
    slots = list(range(args.rollout_size // size))
    rows, logged = _sample_groups(collector, prompts, slots, state, trainer)
    tokens = _sampled_tokens(rows)
    replaced = 0
    for _ in range(args.rounds_of_sampling):
        flat = _groups_without_spread(collector, rows)
        if not flat:
            break
        fresh, of_fresh = _sample_groups(collector, prompts, flat, state, trainer)
        rows = [row for row in rows if row.number // size not in set(flat)] + fresh
        logged, replaced = logged + of_fresh, replaced + len(flat)
        tokens += _sampled_tokens(fresh)
    metrics = {"rollout/tokens": float(tokens)}
    if args.rounds_of_sampling:
        metrics["groups/replaced"] = float(replaced)
    return Sampled(sorted(rows, key=lambda row: row.number), logged, metrics)


def _sample_groups(
    collector: Collector,
    prompts: Sequence[Prompt],
    slots: Sequence[int],
    state: RlState,
    trainer: TrainerState,
) -> tuple[list[ScoredRow], list[Logged]]:
    """Return the responses to the next prompts, one group for each slot of the rollout."""
    args = collector.args
    size, first = args.group_size, state.prompts_drawn
    chosen = draw_prompts(len(prompts), first, len(slots), seed=args.seed)
    state.prompts_drawn += len(slots)
    drawn = {slot: (first + place, chosen[place]) for place, slot in enumerate(slots)}
    rows = [slot * size + member for slot in slots for member in range(size)]
    own = share_of_process(rows, size, rank=args.process_index, ranks=args.world_size)
    numbers = [drawn[row // size][1] for row in own]
    collected, logged = collector.collect(
        [prompts[number] for number in numbers],
        own,
        keys=[drawn[row // size][0] * size + row % size for row in own],
        prompt_numbers=numbers,
        state=trainer,
    )
    return gather_object(collected), gather_object([logged])


def _sampled_tokens(rows: Sequence[ScoredRow]) -> int:
    return sum(row.num_tokens for row in rows if not row.is_given)


def _groups_without_spread(collector: Collector, rows: Sequence[ScoredRow]) -> list[int]:
    """Return the slots of groups whose scores are all the same, or that have none.

    By the weighted sum of the rewards, before normalisation and clip.
    """
    size = collector.args.group_size
    scores = collector.rewards.weigh(torch.stack([row.rewards for row in rows]))
    groups = torch.tensor([row.number // size for row in rows])
    is_scored = ~scores.isnan()
    has_spread = core.group_spread(scores[is_scored], groups[is_scored])
    spread = set(groups[is_scored][has_spread].tolist())
    return sorted(set(groups.tolist()) - spread)
