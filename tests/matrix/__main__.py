"""`python -m tests.matrix [NAME ...]`: run every cell, write docs/models.md; 1 if any is wrong.

With names only these rows are run and printed, and nothing is written.
"""

from __future__ import annotations

import os
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("POSTTRAIN_REPORT", "0")

from tests.matrix.architectures import ARCHITECTURES
from tests.matrix.cells import COLUMNS, STAGES, Column, Outcome, bench, outcome
from tests.matrix.page import PAGE, text_of

_PROCESSES = 2


def row(name: str) -> dict[tuple[Column, str], Outcome]:
    """Return every cell of an architecture."""
    with tempfile.TemporaryDirectory() as folder:
        made = bench(next(each for each in ARCHITECTURES if each.name == name), Path(folder))
        return {(c, stage): outcome(made, c, stage) for c in COLUMNS for stage in STAGES}


def main(names: list[str]) -> int:
    """Run the rows; print each as it is done."""
    chosen = names or [each.name for each in ARCHITECTURES]
    matrix: dict[str, dict[tuple[Column, str], Outcome]] = {}
    with get_context("spawn").Pool(_PROCESSES, maxtasksperchild=8) as pool:
        for name, cells in zip(chosen, pool.imap(row, chosen), strict=True):
            matrix[name] = cells
            sys.stdout.write(f"{name}\n")
            for (column, stage), found in cells.items():
                said = f": {found.said}" if found.said else ""
                sys.stdout.write(f"  {column:<5} {stage:<13} {found.verdict}{said}\n")
            sys.stdout.flush()
    if not names:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text_of(matrix), encoding="utf-8")
        sys.stdout.write(f"wrote {PAGE}\n")
    return int(any(each.verdict == "wrong" for cells in matrix.values() for each in cells.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
