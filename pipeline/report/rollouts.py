"""What a stage on rollouts logged, a line for each, and that said in one line for a terminal.

Not the report's page about it (html/rollouts/). Lines that tell of no rollout, values that are no
finite number and metrics that are not there are passed over.
"""

from __future__ import annotations

import json
import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import METRICS
from pipeline.rl.signs import STOPPED, Shown, shown_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KINDS = ("ppo", "grpo", "rloo", "distill")  # of stages that learn from what they sample
SCORE, GOLD, KL = "objective/scores", "gold/mean", "objective/kl"
TOKENS = "rollout/tokens"  # sampled for it, those of groups that were replaced among them
_RAW_SCORE = "objective/scores_raw"
_OF_A_ROLLOUT = "objective/"
REWARD, _NONE = "rewards/", "/none"
_AT_MOST_MEANT = 10  # rollouts at either end that a change is told by

Rollout = dict[str, float]


def read_rollouts(folder: Path, *, is_finished: bool = True) -> tuple[Rollout, ...]:
    """Return the finite numbers of every rollout; `rollout` is its number, counted if not logged.

    is_finished: else a last line that is half written is passed over. Raises CorruptArtifactError.
    """
    path = folder / METRICS
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if not is_finished:
            lines = [line for line in lines if line.endswith("\n")]
        logged = [numbers(json.loads(line)) for line in lines]
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error
    of_rollouts = (line for line in logged if any(key.startswith(_OF_A_ROLLOUT) for key in line))
    return tuple({"rollout": float(number), **line} for number, line in enumerate(of_rollouts))


def numbers(line: Mapping[str, Any]) -> Rollout:
    """Return what is a finite number."""
    return {
        key: float(value)
        for key, value in line.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def score_key(rollouts: Sequence[Rollout]) -> str:
    """Return the metric of the reward's own score on one scale: before any normalisation."""
    return _RAW_SCORE if any(_RAW_SCORE in rollout for rollout in rollouts) else SCORE


def values(rollouts: Sequence[Rollout], key: str) -> list[float]:
    """Return a metric of those rollouts that have it, in order."""
    return [rollout[key] for rollout in rollouts if key in rollout]


def ends(values_in_order: Sequence[float]) -> tuple[float, float] | None:
    """Return means of the first and of the last tenth of a metric, ten rollouts at most."""
    if not values_in_order:
        return None
    meant = max(1, min(_AT_MOST_MEANT, len(values_in_order) // 10))
    return fmean(values_in_order[:meant]), fmean(values_in_order[-meant:])


def shares_without_reward(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return by reward the share of responses that it was asked for and gave None, where not 0."""
    shares: dict[str, float] = {}
    for key in dict.fromkeys(key for rollout in rollouts for key in rollout):
        if not key.startswith(REWARD) or not key.endswith(_NONE):
            continue
        name = key[len(REWARD) : -len(_NONE)]
        none, number = sum(values(rollouts, key)), sum(values(rollouts, f"{REWARD}{name}/n"))
        if none:
            shares[name] = none / (none + number)
    return shares


def signs(rollouts: Sequence[Rollout]) -> list[Shown]:
    """Return the signs of reward hacking that showed, in order."""
    return [shown for rollout in rollouts for shown in shown_in(rollout)]


def summarize_rollouts(rollouts: Sequence[Rollout], *, with_gold: bool = True) -> str:
    """Return `score 0.31 -> 0.74, KL 3.2 nats, gold 0.28 -> 0.66`, as far as it was logged."""
    keys = (score_key(rollouts), GOLD, KL)
    score, gold, kl = (ends(values(rollouts, key)) for key in keys)
    parts = [f"score {score[0]:.2f} -> {score[1]:.2f}"] if score else []
    parts += [f"KL {kl[1]:.1f} nats"] if kl else []
    parts += [f"gold {gold[0]:.2f} -> {gold[1]:.2f}"] if gold and with_gold else []
    parts += [
        f"no reward from {name} for {share:.1%} of responses"
        for name, share in shares_without_reward(rollouts).items()
    ]
    told = [f"{shown.sign} (rollout {shown.rollout})" for shown in signs(rollouts)]
    parts += [f"signs of reward hacking: {' and '.join(told)}"] if told else []
    parts += ["stopped by it"] if any(STOPPED in rollout for rollout in rollouts) else []
    return ", ".join(parts)
