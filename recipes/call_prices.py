"""What a call of a tool costs: a reward function. Used by tools.yaml."""

from typing import Any


def calls(completions: list[list[dict[str, Any]]], **_: object) -> list[float]:
    """Return how often each response calls a tool; `weight: -0.5` makes it a price."""
    return [
        float(sum(len(turn.get("tool_calls") or ()) for turn in turns)) for turns in completions
    ]
