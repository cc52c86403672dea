"""What a run does about the gates of its comparisons: everything runs, and then it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eval.comparison.comparison import Comparison
    from eval.comparison.pool import PooledComparison


def check_gates(comparisons: Mapping[str, Comparison | PooledComparison]) -> None:
    """Raise GateError if a gate says that a candidate does not ship.

    comparisons: of a run, or pooled over seeds, by the stage's name.
    """
    refused = {
        name: [verdict.model for verdict in comparison.gate.verdicts if not verdict.ships]
        for name, comparison in comparisons.items()
        if comparison.gate is not None
    }
    refusals = [f"{name}: {', '.join(models)}" for name, models in refused.items() if models]
    if refusals:
        raise GateError("DO NOT SHIP", "; ".join(refusals), "the tables say which bounds fail")
