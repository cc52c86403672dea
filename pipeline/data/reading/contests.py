"""Preferences to measure a reward model on: pairs, and contests of more responses to one prompt.

Any row of the form preference is one (preferences.py), and what RewardBench publishes:

    prompt, chosen, rejected, subset    version 1: three texts
    prompt, chosen, rejected, subset    version 2: both responses are lists of texts, of which every
                                        chosen one is better than every rejected one

In RewardBench's rows the prompt is what a user says, not a text to go on: a row with a `subset`, or
with a list of texts, is read like that. Only measured: nothing is trained on contests. Imports no
torch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pipeline.data.reading.data_blocks import task_of
from pipeline.data.reading.fields import text_of
from pipeline.data.reading.files import Row
from pipeline.data.reading.formats import parse_rows, read_source
from pipeline.data.reading.records import DroppedRow, PreferenceRow
from pipeline.data.reading.sources import read_rows
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places

SUBSET = "subset"
_MOST = 64  # responses to a prompt, of one side; RewardBench 2 has up to some twenty


@dataclass(frozen=True)
class ContestRow:
    """Responses to one prompt, of which all chosen ones are better than all rejected ones.

    pairs: as many as the longer side has responses; each response is in one of them. num_chosen,
    num_rejected: chosen response i is in pair i, and so are rejected ones; the last of the shorter
    side is repeated. subset: "" where the data has none. key: what the data calls it (`id`).
    is_of_users: whether its prompt was a text that is read as a user's turn.
    """

    pairs: tuple[PreferenceRow, ...]
    num_chosen: int = 1
    num_rejected: int = 1
    subset: str = ""
    key: str = ""
    is_of_users: bool = False

    @property
    def where(self) -> str:
        """The row in its source."""
        return self.pairs[0].where


def read_contests(block: DataBlock, places: Places) -> Iterator[ContestRow | DroppedRow]:
    """Yield the rows of a source that training on it never sees, in order.

    Of a task, its validation pairs by what is wrong with the rejected response. A contest with an
    empty response, or with two equal ones of either side, is a DroppedRow.
    """
    task = task_of(block, places)
    if task is not None:
        rows = read_source(block, places, forms=("preference",), task=task, held_out=True)
        for row in rows:
            is_pair = isinstance(row, PreferenceRow)
            yield ContestRow((row,), subset=row.flaw) if is_pair else cast("DroppedRow", row)
        return
    begun: deque[tuple[ContestRow, int]] = deque()
    rows = read_rows(block, places, kind="preferences", held_out=True)
    parsed = parse_rows(_unfold(rows, block, begun), block, ("preference",))
    for first in parsed:
        empty, num_pairs = begun.popleft()
        found = [first, *(next(parsed) for _ in range(num_pairs - 1))]
        pairs = tuple(pair for pair in found if isinstance(pair, PreferenceRow))
        if len(pairs) == num_pairs:
            yield replace(empty, pairs=pairs)
        else:
            yield next(pair for pair in found if isinstance(pair, DroppedRow))


def _unfold(
    rows: Iterable[Row], block: DataBlock, begun: deque[tuple[ContestRow, int]]
) -> Iterator[Row]:
    """Yield each row as pairs; `begun` takes what is known of it beside, and how many they are."""
    names = {ours: block.columns.get(ours, ours) for ours in ("prompt", "chosen", "rejected")}
    of_subset = block.columns.get(SUBSET, SUBSET)
    for row in rows:
        subset, key = row.fields.get(of_subset), row.fields.get("id")
        sides = [_side(row, names[name]) for name in ("chosen", "rejected")]
        is_of_users = isinstance(subset, str) or any(len(side) > 1 for side in sides)
        fields = dict(row.fields)
        if is_of_users and isinstance(fields.get(names["prompt"]), str):
            prompt = text_of(fields[names["prompt"]], "prompt", row.where)
            fields[names["prompt"]] = [{"role": "user", "content": prompt}]
        else:
            is_of_users = False
        known = ContestRow(
            (),
            *(len(side) for side in sides),
            subset=subset if isinstance(subset, str) else "",
            key=key if isinstance(key, str) else "",
            is_of_users=is_of_users,
        )
        num_pairs = max(len(side) for side in sides)
        begun.append((known, num_pairs))
        for number in range(num_pairs):
            both = zip((names["chosen"], names["rejected"]), sides, strict=True)
            pair = {name: side[min(number, len(side) - 1)] for name, side in both}
            present = {name: value for name, value in pair.items() if name in fields}
            yield Row(row.where, {**fields, **present})


def _side(row: Row, name: str) -> Sequence[Any]:
    """Return the responses of one side; a value that is no list of texts is the only one."""
    value = row.fields.get(name)
    if not isinstance(value, list):
        return (value,)
    several = cast("list[Any]", value)
    if not any(isinstance(one, str) for one in several):
        if several:
            return (several,)  # a conversation
        raise PosttrainError(row.where, f"`{name}` is an empty list", "name one response at least")
    if len(several) > _MOST:
        message = f"`{name}` has {len(several)} responses, and at most {_MOST} are read"
        raise PosttrainError(row.where, message, "take some out")
    return several
