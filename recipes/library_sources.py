"""A task of one's own that is a text: sources of Python's standard library. Used by scaling.yaml.

Some ten megabytes of real text that is wherever the recipe runs. Pieces of files, shuffled, so that
the first hundred thousand tokens are like all others; a seed of the recipe orders them its own way.
Nothing is asked. Not taken: tests, installed packages, and files that are tables (`encodings`,
`pydoc_data`), which a model learns in jumps.
"""

import platform
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from eval.task import Example, Split, Task, split_of
from reward.verdict import Verdict

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data"}
_PIECE = 2000  # characters, after which a piece ends with its line
_HELD_OUT_PIECES = 100


class LibrarySources(Task):
    """Files of the standard library; a tenth of them is held out, by name."""

    name = "library_sources"
    version = 1
    kind = "knowledge"
    summary = "the sources of Python's standard library, as text"

    def __init__(self) -> None:
        self.source = f"Python {platform.python_version()}"

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield none."""
        return iter(())

    def documents(self, seed: int) -> Iterator[str]:
        """Yield the pieces of the files to train on in an order of the seed's."""
        pieces = _pieces("train")
        random.Random(f"library documents {seed}").shuffle(pieces)
        return iter(pieces)

    def held_out_documents(self, seed: int) -> Iterator[str]:
        """Yield pieces of files that no training reads, the same ones for every seed."""
        pieces = _pieces("validation")
        random.Random("library held out").shuffle(pieces)
        return iter(pieces[:_HELD_OUT_PIECES])

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare as they are; nothing is asked."""
        return Verdict(float(response == reference), response)


def _pieces(split: Split) -> list[str]:
    """Return the files of a split, cut behind lines; the rest of a file is a piece, too."""
    root = Path(sysconfig.get_paths()["stdlib"])
    pieces: list[str] = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not _LEFT_OUT & set(name.parts) and split_of(name.as_posix(), test=0) == split:
            pieces += _cut(path.read_bytes().decode("utf-8", errors="replace"))
    return pieces


def _cut(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        lines.append(line)
        if sum(map(len, lines)) >= _PIECE:
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)
