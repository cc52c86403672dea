"""Where a stage's encoded rows are kept for other runs, and what they are known by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Keeping:
    """What decides the rows that a stage reads, where all of that is known.

    folder: of what is kept, shared by stages and runs. reads: the sources, by what they hold.
    screened: what the rows are compared with; None where they are compared with nothing. reader:
    the name of the result that they are read for.
    """

    folder: Path
    reads: Mapping[str, Any]
    screened: Mapping[str, Any] | None = None
    reader: str | None = None
