"""Which losses of DPO have a meaning for a pair's `probability` and `margin`.

What has none is refused where the rows are read: a label that training ignores is a wrong one. The
losses themselves are pipeline/training/dpo_trainer.py's. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBABILITY, MARGIN = "probability", "margin"
# The expected loss where the label is the other way round in a share 1 - p of cases.
_OF_A_PROBABILITY = ("sigmoid", "hinge", "ipo")
# What is to be exceeded by the margin: of ipo it is set already, 1 / (2 beta).
_OF_A_MARGIN = ("sigmoid", "hinge")
# With these, beside their usual value, the difference of rewards is another one.
_USUAL: Mapping[str, Any] = {
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
}


def check_labels(
    settings: Mapping[str, Any], where: str, *, probability: float | None, margin: float | None
) -> None:
    """Raise PosttrainError for a pair whose probability or margin these settings cannot use.

    settings: of DPOConfig. A probability of 1 and a margin of 0 say nothing.
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
