"""Which of a stage's metrics are drawn, and read from metrics.jsonl: titles to points.

One table of known names serves every kind of training; what a stage does not log has no panel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipeline.files.json_lines import read_lines
from pipeline.files.names import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_MOST_POINTS = 300

_TRAINING, _HELD_OUT = "training", "held out"
# What rollouts/section.py adds to a rollout's metrics.
LESS_KL, LESS_ENDS = "reward less KL", "reward less KL and missing ends"


@dataclass(frozen=True)
class Known:
    """A panel that can be drawn: its title, what it says, and the series by metric name."""

    title: str
    note: str
    series: Mapping[str, str]


# A new stage's metrics get curves by a line here. The first name of a panel leads its colours.
KNOWN = (
    Known("Loss", "", {"loss": _TRAINING, "eval_loss": _HELD_OUT}),
    Known("Policy loss", "", {"loss/policy": _TRAINING}),
    Known("Value loss", "", {"loss/value": _TRAINING}),
    Known(
        "Reward",
        "mean of a rollout",
        {
            "reward": "reward",
            "gold_score": "gold score",
            "objective/scores_raw": "reward",
            "objective/scores": "reward",
            LESS_KL: "less KL",
            LESS_ENDS: "less KL and missing ends",
            "eval_reward": "reward, held out",
            "eval_gold_score": "gold score, held out",
        },
    ),
    Known("Gold score", "mean of a rollout", {"gold/mean": "gold score"}),
    Known(
        "Token accuracy",
        "share of tokens guessed right",
        {"mean_token_accuracy": _TRAINING, "eval_mean_token_accuracy": _HELD_OUT},
    ),
    Known(
        "Pairs ranked right",
        "share with the chosen response ahead",
        {
            "accuracy": _TRAINING,
            "eval_accuracy": _HELD_OUT,
            "rewards/accuracies": _TRAINING,
            "eval_rewards/accuracies": _HELD_OUT,
        },
    ),
    Known(
        "Margin",
        "chosen, or wanted, minus rejected",
        {
            "margin": _TRAINING,
            "eval_margin": _HELD_OUT,
            "rewards/margins": _TRAINING,
            "eval_rewards/margins": _HELD_OUT,
        },
    ),
    Known(
        "Implicit rewards",
        "beta times log p / q",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
    ),
    Known(
        "Scores",
        "of a batch's responses",
        {"mean_reward": "mean", "max_reward": "highest", "min_reward": "lowest"},
    ),
    Known(
        "KL to the reference",
        "nats a response",
        {"kl": "sampled", "objective/kl": "sampled", "eval_kl": _HELD_OUT},
    ),
    Known("Entropy", "nats a token", {"entropy": _TRAINING, "objective/entropy": _TRAINING}),
    Known(
        "Response length",
        "tokens",
        {
            "length": "mean",
            "completions/length": "mean",
            "completions/mean_length": "mean",
            "completions/length_mean": "mean",
        },
    ),
    Known(
        "Ended by itself",
        "share of responses with an end token",
        {"eos_rate": "responses"},
    ),
    Known(
        "Responses that call tools",
        "share",
        {
            "tools/called": "all",
            "tools/called_when_needed": "where one is needed",
            "tools/called_when_not_needed": "where none is needed",
        },
    ),
    Known(
        "Calls of tools that fail",
        "share of calls without a result, of responses whose last calls are not answered",
        {"tools/failure_frequency": "calls", "tools/open": "responses"},
    ),
    Known(
        "Explained variance",
        "of the returns, by the value model",
        {"explained_variance": "value model", "value/explained_var": "value model"},
    ),
    Known(
        "Clipped",
        "share of tokens whose ratio was clipped",
        {
            "clip_fraction": "policy",
            "policy/clipfrac": "policy",
            "policy/clipfrac_low": "too low",
            "policy/clipfrac_high": "too high",
        },
    ),
    Known(
        "Groups without spread",
        "share whose responses score alike",
        {"groups/without_spread": "groups", "frac_reward_zero_std": "groups"},
    ),
    Known(
        "Repeats",
        "share of runs of 4 tokens that stood in the response before",
        {"guards/repetition": "responses"},
    ),
    Known(
        "Answers that other prompts got too",
        "share of responses, between prompts that no one answer is right for",
        {"guards/equal_answers": "responses"},
    ),
    Known(
        "Distinct answers",
        "share, of those to one prompt",
        {"guards/distinct": "groups"},
    ),
    Known("Groups replaced", "by fresh prompts", {"groups/replaced": "groups"}),
    Known(
        "Left out of the loss",
        "shares",
        {"completions/masked": "responses cut", "importance/left_out": "tokens weighed 0"},
    ),
    Known("Importance weight", "of sampled tokens", {"importance/mean": "mean"}),
    Known(
        "Gap of log-probabilities",
        "nats a token, between what samples and what trains",
        {"engine/logp_gap": "largest", "engine/logp_gap_mean": "mean"},
    ),
    Known(
        "Gradient norm",
        "before clipping",
        {"grad_norm": "norm", "policy/grad_norm": "policy", "value/grad_norm": "critic"},
    ),
    Known("KL coefficient", "what a nat of KL costs", {"objective/kl_coef": "coefficient"}),
)


@dataclass(frozen=True)
class Series:
    """One line of a panel: `steps` and `values` of the same length, in order."""

    label: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One small figure over optimizer steps, or rollouts. marks: x where something began."""

    title: str
    note: str
    series: tuple[Series, ...]
    marks: tuple[float, ...] = ()


def panels(folder: Path, *, is_finished: bool = True) -> tuple[Panel, ...]:
    """Return the panels of a stage's metrics.jsonl, in the order of KNOWN; none without one.

    A long series is shown as means of equal stretches. Raises CorruptArtifactError.
    """
    return drawn(read_lines(folder / METRICS, is_finished=is_finished), KNOWN)


def drawn(lines: Sequence[Mapping[str, Any]], table: Iterable[Known]) -> tuple[Panel, ...]:
    """Return the panels of a table for which there is something in lines with a `step`."""
    found = (Panel(known.title, known.note, _series(known, lines)) for known in table)
    return tuple(panel for panel in found if panel.series)


def _series(known: Known, lines: Sequence[Mapping[str, Any]]) -> tuple[Series, ...]:
    """Return the series of a panel that have two points at least; of one label, the first."""
    found: dict[str, Series] = {}
    for key, label in known.series.items():
        points = [
            (float(step), float(value))
            for line in lines
            if _is_number(step := line.get("step", "")) and _is_number(value := line.get(key, ""))
        ]
        if len(points) > 1 and label not in found:
            found[label] = Series(label, *_thinned(points))
    return tuple(found.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _thinned(
    points: Sequence[tuple[float, float]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    size = math.ceil(len(points) / _MOST_POINTS)
    stretches = [points[at : at + size] for at in range(0, len(points), size)]
    return (
        tuple(fmean(step for step, _ in stretch) for stretch in stretches),
        tuple(fmean(value for _, value in stretch) for stretch in stretches),
    )
