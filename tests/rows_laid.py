"""Notes the rows that are run end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.models import padded_rows

if TYPE_CHECKING:
    import pytest


def note_rows_laid(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that grows by the lengths of the rows of each pass of padded rows."""
    lengths: list[list[int]] = []
    run = padded_rows.run_end_to_end

    def run_and_note(network: Any, ids: Any, of_rows: list[int], *rest: Any, **how: Any) -> Any:
        lengths.append(of_rows)
        return run(network, ids, of_rows, *rest, **how)

    monkeypatch.setattr(padded_rows, "run_end_to_end", run_and_note)
    return lengths
