"""Prompts and answers that lie encoded in files, as a trainer on rollouts takes them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from pipeline.data.encoding.answers import PartedAnswer
from pipeline.data.encoding.prompts import StoredPrompt
from pipeline.data.encoding.row_table import EncodedRow
from pipeline.rewards.responses import ORIGIN
from pipeline.rl.prompts import Given, Prompt, ReadyPrompts, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from pipeline.data.encoding.row_table import RowTable

_MASK = "attention_mask"

Row = TypeVar("Row", bound=EncodedRow)


class _Kept(ReadyPrompts, Generic[Row]):
    """Prompts of a table. column: of it, with the ids of a prompt."""

    column: str

    def __init__(self, table: RowTable[Row]) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, number: int) -> Prompt: ...

    @overload
    def __getitem__(self, number: slice) -> list[Prompt]: ...

    def __getitem__(self, number: int | slice) -> Prompt | list[Prompt]:
        """Read a prompt, or those of a slice."""
        if isinstance(number, slice):
            return list(map(self._prompt, self._table[number]))
        return self._prompt(self._table[number])

    @abstractmethod
    def _prompt(self, row: Row) -> Prompt: ...

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt, (N,)."""
        return self._sizes(self.column)

    def _sizes(self, name: str) -> NDArray[np.int64]:
        sizes = [each.value_lengths().to_numpy() for each in self._table.table.column(name).chunks]
        return np.concatenate([*sizes, np.zeros(0, np.int64)])

    def ids(self) -> Iterator[list[int]]:
        """Yield the token ids of each prompt."""
        return self._values(self.column)

    def _values(self, name: str) -> Iterator[Any]:
        for chunk in self._table.table.column(name).chunks:
            yield from chunk.to_pylist()


class KeptPrompts(_Kept[StoredPrompt]):
    """Prompts that a policy is asked, with what reward functions are handed beside them."""

    column = "ids"

    def _prompt(self, row: StoredPrompt) -> Prompt:
        found = row.prompt()
        columns: Any = plain({**found.columns, ORIGIN: found.source})
        return Prompt(found.ids, plain(found.prompt), columns)

    def whole_lengths(self) -> NDArray[np.int64]:
        """The same: nothing is given."""
        return self.lengths()

    def given_ids(self) -> Iterator[list[int] | None]:
        """Yield nothing for each."""
        return (None for _ in range(len(self)))

    def padded(self) -> int | None:
        """Return the number of the first that is padded, by a column; None without one."""
        for number, text in enumerate(self._values("columns")):
            if f'"{_MASK}"' in text and 0 in (self[number].columns.get(_MASK) or ()):
                return number
        return None


class KeptAnswers(_Kept[PartedAnswer]):
    """Prompts with the completions that a teacher is asked about, which are learnt."""

    column = "prompt_ids"

    def __init__(self, table: RowTable[PartedAnswer], tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(table)
        self._tokenizer = tokenizer

    def _prompt(self, row: PartedAnswer) -> Prompt:
        shown = self._tokenizer.decode(row.prompt_ids, skip_special_tokens=True)
        given = Given(row.completion_ids, [bool(flag) for flag in row.is_learnt])
        return Prompt(row.prompt_ids, shown, {}, given)

    def whole_lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt with its completion, (N,)."""
        return self.lengths() + self._sizes("completion_ids")

    def given_ids(self) -> Iterator[list[int]]:
        """Yield the token ids of each completion."""
        return self._values("completion_ids")
