"""Responses to reward, made by hand."""

import math
from typing import Any

from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.responses import Responses
from pipeline.rewards.terms import RewardTerm


def responses(*texts: str, **columns: list[Any]) -> Responses:
    """Responses of one token each, which is their length, that all ended themselves."""
    return Responses(
        prompts=[f"prompt {number}" for number in range(len(texts))],
        completions=list(texts),
        prompt_ids=[[1] for _ in texts],
        completion_ids=[[len(text)] for text in texts],
        has_eos=[True] * len(texts),
        columns=columns,
    )


def given_by(term: RewardTerm, rows: Responses) -> list[float | None]:
    """What a term alone gives, None where it does not apply."""
    values = RewardComposition([term]).raw(rows).squeeze(-1).tolist()
    return [None if math.isnan(value) else value for value in values]
