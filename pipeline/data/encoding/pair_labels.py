"""Which losses of DPO have a meaning for a pair's `probability` and `margin`.

Rows with a label that has no meaning are refused: a label that training ignores misleads. The
losses themselves are in pipeline/training/dpo_trainer.py. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBABILITY, MARGIN = "probability", "margin"
# Losses whose expected value is taken: the label is wrong in a share 1 - p of cases.
_OF_A_PROBABILITY = ("sigmoid", "hinge", "ipo")
# Losses that the margin shifts; ipo has a target of its own already, 1 / (2 beta).
_OF_A_MARGIN = ("sigmoid", "hinge")
# Settings that change what the difference of rewards means, unless they have these values.
_USUAL: Mapping[str, Any] = {
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
}


def check_labels(
    settings: Mapping[str, Any], where: str, *, probability: float | None, margin: float | None
) -> None:
    """Raise PosttrainError for a pair whose probability or margin these settings cannot use.

    settings: of DPOConfig. A probability of 1 and a margin of 0 change nothing.
    """
    is_given = {PROBABILITY: probability not in (None, 1), MARGIN: margin not in (None, 0)}
    for name, usable in ((PROBABILITY, _OF_A_PROBABILITY), (MARGIN, _OF_A_MARGIN)):
        if not is_given[name]:
            continue
        losses = settings.get("loss_type") or ["sigmoid"]
        for loss in [losses] if isinstance(losses, str) else losses:
            if loss not in usable:
                message = f"the loss `{loss}` cannot use the `{name}` of this pair"
                hint = f"{_either(usable)} can; or take the column `{name}` out of the data"
                raise PosttrainError(where, message, hint)
        for key, usual in _USUAL.items():
            if settings.get(key, usual) != usual:
                message = f"with `{key}` {settings[key]} the `{name}` of this pair has no meaning"
                hint = f"leave `{key}` out, or take the column `{name}` out of the data"
                raise PosttrainError(where, message, hint)


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
