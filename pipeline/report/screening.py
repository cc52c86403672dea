"""What became of a training stage's rows before it trained: copies, and test items among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def describe_screening(metrics: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing that was found, sources and items by name."""
    sentences = summarize_screening(metrics)
    if metrics.get("test_items_compared") and not metrics["test_items_overlapping"]:
        sentences.append(f"held against test items: {test_items_found(metrics)}")
    return [*sentences, *map(str, metrics.get("overlaps", ()))]


def summarize_screening(metrics: Mapping[str, Any]) -> list[str]:
    """Return a sentence for copies and one for test items, each where there were any."""
    sentences: list[str] = []
    if metrics.get("rows_repeated"):
        sentences.append(f"{metrics['rows_repeated']} rows that repeat earlier ones were left out")
    if metrics.get("test_items_overlapping"):
        sentences.append(f"test items: {test_items_found(metrics)}")
    return sentences


def test_items_found(metrics: Mapping[str, Any]) -> str:
    """Return how many rows hold how many test items, without naming any; "" if none was sought."""
    if not metrics.get("test_items_compared"):
        return ""
    compared, overlapping = metrics["test_items_compared"], metrics["test_items_overlapping"]
    if not overlapping:
        return f"no row holds any of {compared}"
    dropped = metrics.get("rows_dropped_overlapping")
    if dropped is not None:
        return f"{dropped} rows held {overlapping} of {compared} and were left out"
    trained_on = metrics["rows_overlapping"]
    return f"{trained_on} rows, which were trained on, hold {overlapping} of {compared}"
