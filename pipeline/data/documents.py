"""Documents of token ids end to end in one array, which may lie on disk: any size, little memory.

A document is a stretch of the array, so cutting, repeating and shuffling documents copies no token.
What they are mixed of is mixing.py's subject, rows for a trainer are packing.py's and padding.py's.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

IGNORED = -100  # the label that a loss leaves out


@dataclass(frozen=True)
class Documents(Sequence["NDArray[np.int32]"]):
    """D documents in an array of tokens.

    tokens: (N,), all ids. starts, lengths: (D,), where each document lies among them.
    trained: (N,), whether a token is learnt; None where all are.
    """

    tokens: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    trained: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        documents: Iterable[NDArray[np.int32]],
        trained: Iterable[NDArray[np.bool_]] | None = None,
    ) -> Documents:
        """Lay documents end to end in memory. documents, trained: (L,) each."""
        parts = list(documents)
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        flat = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
        learnt = None if trained is None else np.concatenate([np.zeros(0, dtype=bool), *trained])
        return cls(flat, np.cumsum(lengths) - lengths, lengths, learnt)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: Any) -> Any:
        """Return the ids of a document, (L,), or the documents of a slice."""
        if isinstance(number, slice):
            return replace(self, starts=self.starts[number], lengths=self.lengths[number])
        start, length = int(self.starts[number]), int(self.lengths[number])
        return self.tokens[start : start + length].astype(np.int32)

    def in_order(self, order: NDArray[np.int64]) -> Documents:
        """Return the documents of these numbers, in this order."""
        return replace(self, starts=self.starts[order], lengths=self.lengths[order])

    def split(self, length: int, *, fewest: int = 1) -> tuple[Documents, NDArray[np.int64]]:
        """Return parts of at most `length` tokens, and the number of the document of each (P,).

        fewest: a part of fewer tokens is left out.
        """
        counts = np.maximum(0, -(-(self.lengths - fewest + 1) // length))
        owner = np.repeat(np.arange(len(self)), counts)
        nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        lengths = np.minimum(length, self.lengths[owner] - nth * length)
        starts = self.starts[owner] + nth * length
        return replace(self, starts=starts, lengths=lengths), owner


class TokenFile:
    """A file to which ids are appended, or what is true of them, and which is read in place."""

    def __init__(self, stream: BinaryIO, dtype: type[np.unsignedinteger[Any] | np.bool_]) -> None:
        self._stream = stream
        self._dtype = np.dtype(dtype)
        self.num_tokens = 0

    def append(self, ids: NDArray[Any]) -> None:
        """Append ids, (L,)."""
        self._stream.write(ids.astype(self._dtype).tobytes())
        self.num_tokens += len(ids)

    def tokens(self) -> NDArray[Any]:
        """Return all ids so far, (N,), mapped from the file."""
        self._stream.flush()
        if not self.num_tokens:  # nothing cannot be mapped
            return np.zeros(0, dtype=self._dtype)
        return np.memmap(self._stream, dtype=self._dtype, mode="r", shape=(self.num_tokens,))


def id_type(num_ids: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that holds the ids of a vocabulary of this size."""
    return np.uint16 if num_ids <= 1 << 16 else np.uint32
