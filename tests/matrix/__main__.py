"""`python -m tests.matrix [NAME ...]`: run every cell, write docs/models.md; 1 if any is wrong.

With names only these rows are run; the others stay as the page has them.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("POSTTRAIN_REPORT", "0")

from tests.forked import warm
from tests.matrix.architectures import ARCHITECTURES
from tests.matrix.cells import row
from tests.matrix.page import PAGE, read, text_of

_PROCESSES = 2


def main(names: list[str]) -> int:
    """Run the rows; print each as it is done."""
    everything = [each.name for each in ARCHITECTURES]
    chosen = names or everything
    matrix = read(PAGE.read_text(encoding="utf-8")) if names and PAGE.exists() else {}
    warm()  # imported once, not by every process
    with get_context("fork").Pool(_PROCESSES) as pool:
        for name, cells in zip(chosen, pool.imap(row, chosen), strict=True):
            matrix[name] = cells
            sys.stdout.write(f"{name}\n")
            for (column, stage), found in cells.items():
                said = f": {found.said}" if found.said else ""
                sys.stdout.write(f"  {column:<5} {stage:<13} {found.verdict}{said}\n")
            sys.stdout.flush()
    PAGE.parent.mkdir(exist_ok=True)
    page = text_of({name: matrix[name] for name in everything if name in matrix})
    PAGE.write_text(page, encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
    return int(any(each.verdict == "wrong" for cells in matrix.values() for each in cells.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
