"""How many answers were wanted and how many were not, and what KTO makes of such shares.

With n desirable and m undesirable rows of weights d and u, Ethayarajh et al. 2024 (eq. 8) recommend
n d / (m u) from 1 to 4/3, and TRL warns of anything else. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.pair_labels import MARGIN, PROBABILITY
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.data.reading.records import PreferenceRow

DESIRABLE, UNDESIRABLE = "rows_desirable", "rows_undesirable"  # metrics of a stage
PAIRS_SPLIT = "pairs_split"
WARNING = "label_warning"
_WEIGHTS = ("desirable_weight", "undesirable_weight")
_LOWEST, _HIGHEST = 1.0, 4 / 3
_ROUNDING = 0.005  # upstream compares weights of two decimal places


def one_label_problem(
    num_desirable: int, num_undesirable: int, settings: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Return what is wrong, and what to do, where all rows have one label; or None.

    settings: of KTOConfig. A weight of 0 for the label that is not there says that it is meant.
    """
    missing = _WEIGHTS[1] if num_desirable else _WEIGHTS[0]
    is_one = bool(num_desirable) != bool(num_undesirable)
    if not is_one or settings.get(missing, 1.0) == 0:
        return None
    label = "desirable" if num_desirable else "undesirable"
    message = f"all {num_desirable or num_undesirable} rows are {label}"
    message += ", and `kto` learns from the difference"
    instead = "`stage: sft` learns from wanted answers alone; " if num_desirable else ""
    return message, f"{instead}`training_args: {{{missing}: 0}}` says that it is meant"


def label_metrics(
    num_desirable: int, num_undesirable: int, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return a warning as a metric where the labels weigh more or less than is recommended.

    settings: of KTOConfig.
    """
    if not num_desirable or not num_undesirable:
        return {}
    desirable, undesirable = (float(settings.get(name, 1.0)) for name in _WEIGHTS)
    if not desirable or not undesirable:
        return {}  # it is meant
    balance = num_desirable * desirable / (num_undesirable * undesirable)
    if _LOWEST - _ROUNDING <= balance <= _HIGHEST + _ROUNDING:
        return {}
    ranges = [
        f"`{name}` {_short(low)} to {_short(high)}"
        for name, low, high in (
            (_WEIGHTS[0], desirable * _LOWEST / balance, desirable * _HIGHEST / balance),
            (_WEIGHTS[1], undesirable * balance / _HIGHEST, undesirable * balance / _LOWEST),
        )
    ]
    told = f"wanted answers weigh {_short(balance)} times what unwanted ones do"
    return {WARNING: f"{told}, and 1 to 1.33 is recommended: {' or '.join(ranges)}"}


def check_pair(pair: PreferenceRow) -> None:
    """Raise PosttrainError for a pair with a label that two rows without a pair cannot carry."""
    for name, value, usual in ((PROBABILITY, pair.probability, 1), (MARGIN, pair.margin, 0)):
        if value not in (None, usual):
            message = f"`kto` cannot use the `{name}` of this pair"
            hint = f"`stage: dpo` can; or take the column `{name}` out of the data"
            raise PosttrainError(pair.where, message, hint)


def describe_labels(metrics: Mapping[str, Any]) -> list[str]:
    """Return in words, from a stage's metrics, how many rows have which label; [] where none."""
    if DESIRABLE not in metrics:
        return []
    told = [f"{metrics[DESIRABLE]} desirable, {metrics[UNDESIRABLE]} undesirable"]
    if metrics.get(PAIRS_SPLIT):
        told.append(f"{metrics[PAIRS_SPLIT]} pairs are two rows each")
    return [*told, *filter(None, [metrics.get(WARNING)])]


def _short(number: float) -> str:
    return f"{number:.3g}"
