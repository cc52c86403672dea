"""What a run does about the gates of its comparisons: everything runs, and then it fails."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import GateError


def check_gates(comparisons: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise GateError if a gate says that a candidate does not ship.

    comparisons: what comparison.json says, or what is pooled over seeds, by the stage's name.
    """
    refused = {
        name: [verdict["model"] for verdict in gate["verdicts"] if not verdict["ships"]]
        for name, comparison in comparisons.items()
        if (gate := comparison.get("gate")) is not None
    }
    said = [f"{name}: {', '.join(models)}" for name, models in refused.items() if models]
    if said:
        raise GateError("DO NOT SHIP", "; ".join(said), "the tables say which bounds fail")
