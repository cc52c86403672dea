"""Several sources mixed by weight: shares of tokens for pre-training, of rows for all else.

The seed and the order of the sources decide everything. Imports no torch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PosttrainError

Document = NDArray[np.int32]
RowType = TypeVar("RowType")


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
    sources: Sequence[TokenSource], *, tokens: int, seed: int
) -> tuple[list[Document], list[TokenShare]]:
    """Return shuffled documents of exactly `tokens` tokens, from sources in shares by weight.

    A source is read from its start, as often as needed; its last document is cut to fit.
    """
    # Budgets are differences of rounded running sums, so that they add up to `tokens` exactly.
    total = sum(source.weight for source in sources)
    documents: list[Document] = []
    shares: list[TokenShare] = []
    budgeted, reached = 0, 0.0
    for source in sources:
        reached += source.weight
        budget = round(tokens * reached / total) - budgeted
        chosen, passes = _fill(source, budget)
        documents += chosen
        shares.append(TokenShare(source.label, budget, passes))
        budgeted += budget
    order = np.random.default_rng(seed).permutation(len(documents))
    return [documents[number] for number in order], shares


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


def _fill(source: TokenSource, budget: int) -> tuple[list[Document], float | None]:
    """Return documents of `budget` tokens, and how many passes over the source they took."""
    if budget == 0:
        raise PosttrainError(source.label, "its share of the tokens is none", "raise its weight")
    documents: list[Document] = []
    first_pass: list[Document] = []
    left, last_pass_tokens = budget, 0
    for number in count():
        is_repeat = number > 0 and not source.varies
        taken = _take(first_pass if is_repeat else source.open_pass(number), left)
        num_tokens = sum(len(document) for document in taken)
        if num_tokens == 0:
            raise PosttrainError(source.label, "no documents", "there is nothing to train on")
        documents += taken
        left -= num_tokens
        if left == 0:
            return documents, number + num_tokens / last_pass_tokens if number > 0 else None
        if number == 0:
            first_pass = taken
        last_pass_tokens = num_tokens
    raise AssertionError  # count() has no end


def _take(documents: Iterable[Document], limit: int) -> list[Document]:
    """Return the first documents, `limit` tokens at most; the last one is cut."""
    taken: list[Document] = []
    for document in documents:
        taken.append(document[:limit])
        limit -= len(taken[-1])
        if limit == 0:
            break
    return taken
