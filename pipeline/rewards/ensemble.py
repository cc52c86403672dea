"""Several reward models as one reward: the mean of what they say of a response, or the worst.

What one of them alone finds good may be its error, and an optimiser looks for such errors; what the
least favourable of several still finds good is less likely to be one (Coste et al. 2024, "Reward
Model Ensembles Help Mitigate Overoptimization"). A Bradley-Terry model says nothing about the level
of its scores and little about their size, so each member's are brought to one scale first: minus
their mean, over their deviation, both on the pairs that its training held out. The scale is fixed
before anything is scored: it is the same in every stage and process, and nothing has to be resumed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.files.names import HELD_OUT
from pipeline.rewards.terms import RewardTerm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import TrainerState

    from pipeline.config.reward_terms import Ensemble, RewardBlock
    from pipeline.config.stage import StageContext
    from pipeline.rewards.responses import Responses

SPREAD = "spread"  # of a response: how far its members' scores lie apart


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of a reward model's scores."""

    mean: float
    deviation: float

    def standardise(self, scores: Sequence[float]) -> list[float]:
        """Return scores on the scale that all members share."""
        return [(score - self.mean) / self.deviation for score in scores]


def scales_of(block: RewardBlock, context: StageContext) -> list[Scale]:
    """Return the scales of the members of an ensemble, as the recipe or their training says."""
    if block.scale:
        return [Scale(*scale) for scale in block.scale]
    sources = [context.model(model) for model in block.models]
    return [scale_of(source.name, Path(source.path)) for source in sources]


def scale_of(name: str, folder: Path) -> Scale:
    """Return the scale of a reward model on the pairs that its training held out.

    Raises PosttrainError for one that held none out, or gives all of them one score.
    """
    path = folder / HELD_OUT
    hint = "write `scale: [[mean, deviation], ...]`; `evaluate` with `pairs` reports both"
    if not path.is_file():
        message = f"the reward model `{name}` has no held-out pairs, which its scale is taken from"
        raise PosttrainError(str(folder), message, hint)
    scores: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["scores"]
    deviation = scores["score_sd"]
    if not deviation > 0:
        message = f"the reward model `{name}` gives all held-out responses one score"
        raise PosttrainError(str(folder), message, "train it longer, or take it out")
    return Scale((scores["chosen_mean"] + scores["rejected_mean"]) / 2, deviation)


def combine(standardised: Sequence[Sequence[float]], how: Ensemble) -> list[float]:
    """Return the mean or the worst of the members' scores of each response.

    standardised: by member, each one score a response, on one scale.
    """
    of_responses = zip(*standardised, strict=True)
    return [fmean(scores) if how == "mean" else min(scores) for scores in of_responses]


def spreads(standardised: Sequence[Sequence[float]]) -> list[float]:
    """Return the deviation between members of each response's scores, in their deviations."""
    return [pstdev(scores) for scores in zip(*standardised, strict=True)]


def ensemble_term(
    members: Sequence[RewardTerm], scales: Sequence[Scale], how: Ensemble, name: str, weight: float
) -> RewardTerm:
    """Make one term of several reward models, each a term of its own name.

    Logged beside it: the spread, and each member's standardised score.
    """

    def score(responses: Responses, state: TrainerState | None) -> list[float]:
        standardised: list[list[float]] = []
        for member, scale in zip(members, scales, strict=True):
            standardised.append(scale.standardise(member.score(responses, state)))
            responses.logged.metrics[member.name] = standardised[-1]
            responses.logged.columns[member.name] = standardised[-1]
        responses.logged.metrics[SPREAD] = spreads(standardised)
        return combine(standardised, how)

    return RewardTerm(name, weight, score, members[0].on)
