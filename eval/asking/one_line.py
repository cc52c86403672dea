"""Rows read by a decoder of plain layers as one line of tokens, without padding, on a CPU.

A text and what may follow it are a row: the continuations all see the text and none sees another,
so that each token is computed once. A beginning that all rows share stands before them, once. All
but attention takes tokens by themselves; attention goes row by row. Of the last layer and the head,
only what is asked for is computed.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from eval.asking.plain_layers import PlainDecoder

LONGEST = 1024  # tokens of a row and its beginning: each has a score for each one before
_LINE = 2048  # tokens: what is between two layers stays near the processor


class Row(NamedTuple):
    """A text's token ids, which must not be empty, and those of what follows it, if anything."""

    text: list[int]
    following: list[list[int]]

    @property
    def length(self) -> int:
        """How many tokens of a line it takes."""
        return len(self.text) + sum(map(len, self.following))


class Read(NamedTuple):
    """What came of a line.

    hidden: (M, d), for the head; of each row its text's last token and all that follow the text.
    starts: of each row, the place of the first of these. keys, values: of each layer, (N, heads,
    size), where they were asked for. rows: of the places of tokens in the line.
    """

    hidden: Tensor
    starts: list[int]
    held: list[tuple[Tensor, Tensor]]
    rows: list[slice]


def lines(rows: Sequence[Row]) -> Iterator[slice]:
    """Yield which rows one after another make a line: a long one alone, short ones together."""
    start, count = 0, 0
    for number, row in enumerate(rows):
        if number > start and count + row.length > _LINE:
            yield slice(start, number)
            start, count = number, 0
        count += row.length
    yield slice(start, len(rows))


def read_line(
    decoder: PlainDecoder, prefix: list[int], rows: Sequence[Row], *, keeps: bool = False
) -> Read:
    """Run rows that begin with a prefix, which may be empty and is not repeated in their texts.

    keeps: whether to return keys and values.
    """
    ids, positions = list(prefix), list(range(len(prefix)))
    for text, following in rows:
        ids += text
        positions += range(len(prefix), len(prefix) + len(text))
        for each in following:
            ids += each
            positions += range(len(prefix) + len(text), len(prefix) + len(text) + len(each))
    hidden = decoder.embedded(torch.tensor(ids))
    turn = decoder.angles(torch.tensor(positions))
    ends = list(accumulate((row.length for row in rows), initial=len(prefix)))
    places = [slice(*each) for each in pairwise(ends)]
    beginning = slice(0, len(prefix))
    parts = [_Part(place, len(prefix), row) for place, row in zip(places, rows, strict=True)]
    if prefix:
        parts.insert(0, _Part(beginning, 0, Row(prefix, [])))
    held: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(decoder.layers):
        queries, keys, values = layer.asked(hidden, turn)
        if keeps:
            held.append((keys, values))
        if number + 1 == len(decoder.layers):
            parts = parts[len(parts) - len(rows) :]
            for part in parts:
                part.look_from_last()
            looking = torch.cat([torch.arange(part.first, part.place.stop) for part in parts])
            hidden = hidden[looking]
        seen = hidden.new_empty(len(hidden), queries[0].numel())
        start = 0
        for part in parts:
            stop = start + part.place.stop - part.first
            part.look(queries, keys, values, seen[start:stop])
            start = stop
        hidden = layer.after(hidden, seen)
    lengths = [part.place.stop - part.first for part in parts]
    return Read(hidden, list(accumulate(lengths, initial=0))[:-1], held, places)


class _Part:
    """A part of a line whose tokens see each other, if they see the ones before."""

    def __init__(self, place: slice, num_before: int, row: Row) -> None:
        """Prepare a row; num_before: tokens at the beginning of the line that it sees too."""
        self.place, self.first = place, place.start
        self._before = slice(0, num_before)
        self._last = place.start + len(row.text) - 1
        self._mask = _causal(1 << (row.length - 1).bit_length())[: row.length, : row.length]
        if len(row.following) > 1:
            self._mask = self._mask.clone()
            end = len(row.text)
            for each in row.following:
                start, end = end, end + len(each)
                self._mask[end:, start:end] = -torch.inf

    def look_from_last(self) -> None:
        """From now on, look from the text's last token and all that follow it only."""
        self._mask = self._mask[self._last - self.first :]
        self.first = self._last

    def look(self, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> None:
        """Find the values that the queries (N, heads, queries of one, size) here see.

        seen: what takes them, (L, size of all heads).
        """
        looking = queries[self.first : self.place.stop].transpose(0, 1)
        heads, count, of_one, size = looking.shape
        looking = looking.reshape(heads, count * of_one, size)
        mask = self._mask if of_one == 1 else self._mask.repeat_interleave(of_one, 0)
        own_keys, own_values = (each[self.place].transpose(0, 1) for each in (keys, values))
        scores = torch.baddbmm(mask, looking, own_keys.transpose(1, 2))
        if self._before.stop:
            keys, values = (each[self._before].transpose(0, 1) for each in (keys, values))
            scores = torch.cat([torch.bmm(looking, keys.transpose(1, 2)), scores], dim=-1)
            shares = scores.softmax(-1)
            found = torch.bmm(shares[..., : self._before.stop], values)
            found.baddbmm_(shares[..., self._before.stop :], own_values)
        else:
            found = torch.bmm(scores.softmax(-1), own_values)
        seen.view(count, heads, -1).copy_(found.view(heads, count, -1).transpose(0, 1))


@cache
def _causal(length: int) -> Tensor:
    """Return (L, L), -infinity where a token comes after the one that looks."""
    return torch.full((length, length), -torch.inf).triu_(1)
