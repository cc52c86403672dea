"""Several sources mixed by weight: shares of tokens for pre-training, of rows for all else.

The seed and the order of the sources decide everything. Imports no torch.
"""

import tempfile
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.documents import Documents, TokenFile
from pipeline.errors import PosttrainError

Document = NDArray[np.int32]
RowType = TypeVar("RowType")
_TOLD_EVERY = 1 << 14  # tokens: some hundredths of a second


@dataclass(frozen=True)
class TokenSource:
    """Documents to mix.

    open_pass: number of the pass, from 0 -> its documents as token ids.
    varies: passes hold different documents (a task's), so another pass is opened, not repeated.
    """

    label: str
    open_pass: Callable[[int], Iterable[Document]]
    weight: float = 1.0
    varies: bool = False


@dataclass(frozen=True)
class TokenShare:
    """What a source gave. passes: how often it was read, None if less than once."""

    label: str
    num_tokens: int
    passes: float | None

    def __str__(self) -> str:
        passes = "under 1 pass" if self.passes is None else f"{self.passes:.1f} passes"
        return f"{self.label}: {self.num_tokens:,} tokens, {passes}"


@dataclass(frozen=True)
class RowSource(Generic[RowType]):
    """Rows to mix. weight: None where the recipe has none. not_used: columns that nothing reads."""

    label: str
    rows: Sequence[RowType]
    weight: float | None = None
    not_used: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowShare:
    """How many of a source's rows are in the mix."""

    label: str
    num_rows: int
    not_used: tuple[str, ...] = ()


def share_metrics(shares: Sequence[RowShare], noun: str) -> dict[str, Any]:
    """Return what is in a mix as a stage's metrics, with the columns that nothing reads."""
    not_used = [
        f"{', '.join(share.not_used)} ({share.label})" for share in shares if share.not_used
    ]
    return {
        "sources": [f"{share.label}: {share.num_rows} {noun}" for share in shares],
        **({"not_used": not_used} if not_used else {}),
    }


def mix_documents(
    sources: Sequence[TokenSource],
    *,
    tokens: int,
    seed: int,
    dtype: type[np.unsignedinteger[Any]] = np.uint32,
    on_progress: Callable[[int], None] = lambda num_tokens: None,
) -> tuple[Documents, list[TokenShare]]:
    """Return shuffled documents of exactly `tokens` tokens, from sources in shares by weight.

    Their tokens lie in a file without a name. dtype: of an id there. on_progress: called again and
    again with how many tokens there are.
    """
    with tempfile.TemporaryFile() as stream:
        documents, shares = fill(
            sources, tokens=tokens, stream=stream, dtype=dtype, on_progress=on_progress
        )
    return shuffle(documents, seed=seed), shares


def fill(
    sources: Sequence[TokenSource],
    *,
    tokens: int,
    stream: BinaryIO,
    dtype: type[np.unsignedinteger[Any]],
    on_progress: Callable[[int], None],
) -> tuple[Documents, list[TokenShare]]:
    """Return documents of exactly `tokens` tokens, source after source, written to a stream.

    A source is read from its start, as often as needed; its last document is cut to fit.
    """
    # Budgets are differences of rounded running sums, so that they add up to `tokens` exactly.
    total = sum(source.weight for source in sources)
    filling = _Filling(TokenFile(stream, dtype), on_progress)
    shares: list[TokenShare] = []
    budgeted, reached = 0, 0.0
    for source in sources:
        reached += source.weight
        budget = round(tokens * reached / total) - budgeted
        passes = filling.fill(source, budget)
        shares.append(TokenShare(source.label, budget, passes))
        budgeted += budget
    return filling.documents(), shares


def shuffle(documents: Documents, *, seed: int) -> Documents:
    """Return documents in an order that the seed decides."""
    return documents.in_order(np.random.default_rng(seed).permutation(len(documents)))


def mix_rows(
    sources: Sequence[RowSource[RowType]], *, seed: int
) -> tuple[list[RowType], list[RowShare]]:
    """Return the rows of one epoch, source after source; a trainer shuffles them.

    Without any weight, all rows. With weights (1 by default), rows in those shares, none of them
    twice: the source that is smallest for its weight gives all its rows, the rest a random part.
    """
    weights = [1.0 if source.weight is None else source.weight for source in sources]
    is_weighted = any(source.weight is not None for source in sources)
    pairs = list(zip(sources, weights, strict=True))
    epoch = min(len(source.rows) / weight for source, weight in pairs)
    generator = np.random.default_rng(seed)
    mixed: list[RowType] = []
    shares: list[RowShare] = []
    for source, weight in pairs:
        available = len(source.rows)
        share = min(available, max(1, round(epoch * weight))) if is_weighted else available
        chosen = sorted(generator.permutation(available)[:share].tolist())
        mixed += [source.rows[number] for number in chosen]
        shares.append(RowShare(source.label, share, source.not_used))
    return mixed, shares


@dataclass
class _Filling:
    """Documents as they are written.

    starts, lengths: of those so far. reached: tokens in all of them; told: in those that
    `on_progress` has been told of.
    """

    file: TokenFile
    on_progress: Callable[[int], None]
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    reached: int = 0
    told: int = 0

    def documents(self) -> Documents:
        """Return all of them."""
        starts, lengths = (np.array(each, dtype=np.int64) for each in (self.starts, self.lengths))
        return Documents(self.file.tokens(), starts, lengths)

    def fill(self, source: TokenSource, budget: int) -> float | None:
        """Add documents of `budget` tokens; return how many passes over the source they took."""
        if budget == 0:
            raise PosttrainError(
                source.label, "its share of the tokens is none", "raise its weight"
            )
        begun = first_end = len(self.starts)
        left, last_pass_tokens = budget, 0
        for number in count():
            is_repeat = number > 0 and not source.varies
            if is_repeat:
                num_tokens = self._repeat(begun, first_end, left)
            else:
                num_tokens = self._write(source.open_pass(number), left)
            if num_tokens == 0:
                raise PosttrainError(source.label, "no documents", "there is nothing to train on")
            left -= num_tokens
            if left == 0:
                return number + num_tokens / last_pass_tokens if number > 0 else None
            if number == 0:
                first_end = len(self.starts)
            last_pass_tokens = num_tokens
        raise AssertionError  # count() has no end

    def _write(self, documents: Iterable[Document], limit: int) -> int:
        """Write the first documents, `limit` tokens at most; return how many tokens they have."""
        left = limit
        for document in documents:
            taken = document[:left]
            self._note(self.file.num_tokens, len(taken))
            self.file.append(taken)
            left -= len(taken)
            if left == 0:
                break
        return limit - left

    def _repeat(self, begin: int, end: int, limit: int) -> int:
        """Add documents that are written already, `limit` tokens at most, in the same way."""
        left = limit
        for number in range(begin, end):
            self._note(self.starts[number], min(left, self.lengths[number]))
            left -= self.lengths[-1]
            if left == 0:
                break
        return limit - left

    def _note(self, start: int, length: int) -> None:
        self.starts.append(start)
        self.lengths.append(length)
        self.reached += length
        if self.reached >= self.told + _TOLD_EVERY:
            self.told = self.reached
            self.on_progress(self.reached)
