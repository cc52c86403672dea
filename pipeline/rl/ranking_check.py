"""A gate before reinforcement learning: does the reward tell responses apart at all?

A policy learns whatever its reward model says, so that one which ranks no better than chance, or
scores everything alike, is found out before hours are spent on it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.files.names import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_ENOUGH = 8
_HINT = "look at its data and train it longer, or write `reward_gate: off`"


def check_ranking(where: str, name: str, folder: Path) -> None:
    """Raise PosttrainError for a reward model whose held-out accuracy may be chance.

    folder: of the reward model; one that was trained elsewhere has no such record and passes.
    """
    path = folder / HELD_OUT
    if not path.is_file():
        return
    held_out: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    low, high = held_out["low"], held_out["high"]
    if low is not None and low <= 0.5:
        raise PosttrainError(
            where,
            f"the reward model `{name}` ranks {held_out['accuracy']:.2f} [{low:.2f}, {high:.2f}] "
            f"of {held_out['n']} held-out pairs right, which may be chance (0.50)",
            _HINT,
        )


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
