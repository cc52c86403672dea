"""What became of a training stage's rows before it trained: copies, and test items among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def screened(metrics: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing that was found, sources and items by name."""
    said = counted(metrics)
    if metrics.get("test_items_compared") and not metrics["test_items_overlapping"]:
        said.append(f"held against test items: {test_items_found(metrics)}")
    return [*said, *map(str, metrics.get("overlaps", ()))]


def counted(metrics: Mapping[str, Any]) -> list[str]:
    """Return a sentence for copies and one for test items, each where there were any."""
    said: list[str] = []
    if metrics.get("rows_repeated"):
        said.append(f"{metrics['rows_repeated']} rows that repeat earlier ones were left out")
    if metrics.get("test_items_overlapping"):
        said.append(f"test items: {test_items_found(metrics)}")
    return said


def test_items_found(metrics: Mapping[str, Any]) -> str:
    """Return how many rows hold how many test items, without naming any; "" if none was sought."""
    if not metrics.get("test_items_compared"):
        return ""
    compared, found = metrics["test_items_compared"], metrics["test_items_overlapping"]
    if not found:
        return f"no row holds any of {compared}"
    dropped = metrics.get("rows_dropped_overlapping")
    if dropped is not None:
        return f"{dropped} rows held {found} of {compared} and were left out"
    return f"{metrics['rows_overlapping']} rows, which were trained on, hold {found} of {compared}"
