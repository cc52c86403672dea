"""Pairs that people labelled, as an exam takes them: of different prompts, the sides drawn.

From a source of preferences, the part that training never sees, or from tasks, whose pairs are
labelled by how they were made. Which pairs are taken, and which response stands first, is drawn by
a hash: the same for whoever is examined, and on every machine. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from eval.tasks.benchmark import BenchmarkTask
from pipeline.config.blocks import DataBlock
from pipeline.data.reading.contests import read_contests
from pipeline.data.reading.holdout import row_digest
from pipeline.data.reading.records import DroppedRow, PreferenceRow
from pipeline.data.reading.tasks import load_task
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eval.statistics.agreement import Side
    from pipeline.config.licence import LicenceBlock
    from pipeline.config.references import Places
    from pipeline.data.reading.records import Message


@dataclass(frozen=True)
class LabelledPair:
    """A pair, and where the response that people prefer stands. key: tells pairs apart."""

    row: PreferenceRow
    label: Side
    key: str

    @property
    def first(self) -> Message:
        """The response that stands first."""
        return self.row.turns[0 if self.label == "first" else 1]

    @property
    def second(self) -> Message:
        """The other one."""
        return self.row.turns[1 if self.label == "first" else 0]

    @property
    def lengths(self) -> tuple[int, int]:
        """Of both responses, in characters."""
        return len(self.first.content), len(self.second.content)


@dataclass(frozen=True)
class LabelledPairs:
    """The pairs of an exam. source: whose they are, in words. num_read: rows there were to draw of.

    num_unusable: of these, without two different texts in answer to one prompt.
    """

    source: str
    pairs: tuple[LabelledPair, ...]
    num_read: int
    num_unusable: int


def read_labelled_pairs(block: LicenceBlock, places: Places) -> LabelledPairs:
    """Return the pairs of a source; PosttrainError where there are none to use."""
    rows = _pairs(block, places)
    found = _draw(block.label, rows, block.pairs)
    if not found.pairs:
        message = f"none of its {found.num_read} rows is a pair to be examined on"
        raise PosttrainError(block.label, message, "name a source with two responses a prompt")
    return found


def read_task_pairs(names: Sequence[str], places: Places, *, at_most: int) -> LabelledPairs | None:
    """Return the validation pairs of those tasks that have some; None where none has."""
    with_pairs = [name for name in names if has_pairs(name, places)]
    if not with_pairs:
        return None
    each = -(-at_most // len(with_pairs))
    parts = [_draw(name, _pairs(DataBlock(task=name), places), each) for name in with_pairs]
    return LabelledPairs(
        ", ".join(with_pairs),
        tuple(pair for part in parts for pair in part.pairs),
        sum(part.num_read for part in parts),
        sum(part.num_unusable for part in parts),
    )


def has_pairs(name: str, places: Places) -> bool:
    """Whether a task has pairs that training on it never sees; no benchmark has any.

    ValueError for a task that there is not.
    """
    task = load_task(name, places)
    if isinstance(task, BenchmarkTask):
        return False
    return next(iter(task.preference_pairs("validation")), None) is not None


def _pairs(block: DataBlock, places: Places) -> Iterator[PreferenceRow | DroppedRow]:
    """Yield the pairs of a source; of a contest of several responses, each with another."""
    for row in read_contests(block, places):
        yield from (row,) if isinstance(row, DroppedRow) else row.pairs


def _draw(source: str, rows: Iterable[object], at_most: int) -> LabelledPairs:
    """Return one pair of each prompt, of so many prompts, the smallest hashes first."""
    by_prompt: dict[bytes, tuple[bytes, PreferenceRow]] = {}
    num_read = num_unusable = 0
    for row in rows:
        num_read += 1
        if isinstance(row, DroppedRow) or not isinstance(row, PreferenceRow) or _is_alike(row):
            num_unusable += 1
            continue
        prompt, whole = _digests(row)
        if prompt not in by_prompt or whole < by_prompt[prompt][0]:
            by_prompt[prompt] = whole, row
    drawn = (by_prompt[prompt] for prompt in islice(sorted(by_prompt), at_most))
    pairs = tuple(
        LabelledPair(row, "first" if whole[-1] % 2 else "second", whole.hex()[:16])
        for whole, row in drawn
    )
    return LabelledPairs(source, pairs, num_read, num_unusable)


def _is_alike(row: PreferenceRow) -> bool:
    """Whether the texts of both responses are the same: they differ in what they call."""
    chosen, rejected = row.turns
    return chosen.content.strip() == rejected.content.strip()


def _digests(row: PreferenceRow) -> tuple[bytes, bytes]:
    """Return hashes of a pair's prompt, and of all of it."""
    asked = [turn.texts for turn in row.prompt] or [[row.text[0] if row.text else ""]]
    answers = [row.chosen, row.rejected]
    return row_digest({"prompt": asked}), row_digest({"prompt": asked, "answers": answers})
