"""A gate at the first rollout: does a reward model tell what the policy samples apart at all?

A policy learns whatever its reward model says. One that ranks no better than chance, or length,
has no licence (pipeline/rewards/licence.py); here one is found out that has, and scores alike
whatever this policy writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_ENOUGH = 8
_HINT = "look at its data and train it longer, or write `reward_gate: off`"


def check_scores(where: str, names: Sequence[str], raw: Tensor) -> None:
    """Raise PosttrainError for a reward model that gives every sampled response the same score.

    names: of the reward terms, "" for those that are not reward models. raw: (B, K), NaN where a
    term does not apply.
    """
    for name, column in zip(names, raw.unbind(-1), strict=True):
        scores = column[~column.isnan()]
        if name and len(scores) >= _ENOUGH and bool((scores == scores[0]).all()):
            raise PosttrainError(
                where,
                f"the reward model `{name}` gives all {len(scores)} responses of the first rollout "
                f"the same score, {float(scores[0]):.4g}",
                _HINT,
            )
