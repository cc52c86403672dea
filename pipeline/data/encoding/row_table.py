"""Encoded rows in an Arrow table, in memory or in a file that is read in place.

A row is a dataclass of token ids, texts and labels; its fields are the columns, and `length` is one
more. A million rows of 200 tokens take as little memory as ten. How rows come about is the subject
of examples.py, pairs.py and unpaired.py. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_type_hints, overload

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from datasets import Dataset
    from numpy.typing import NDArray

LENGTH = "length"  # tokens of a row; of a pair, of its longer sequence
ROW = "row"  # a row's number
_TYPES: dict[Any, pa.DataType] = {
    list[int]: pa.list_(pa.int32()),
    str: pa.string(),
    bool: pa.bool_(),
    float | None: pa.float64(),
}


class EncodedRow(Protocol):
    """A dataclass whose fields are columns."""

    @property
    def where(self) -> str:
        """The row in its source."""
        ...

    @property
    def length(self) -> int:
        """Its tokens."""
        ...


Row = TypeVar("Row", bound=EncodedRow)


class RowTable(Sequence[Row]):
    """Rows of one kind. table: their columns."""

    def __init__(self, kind: type[Row], table: pa.Table) -> None:
        self._kind = kind
        self.table = table

    @classmethod
    def of(cls, kind: type[Row], rows: Sequence[Row]) -> RowTable[Row]:
        """Lay rows out in memory."""
        return cls(kind, pa.Table.from_batches([batch_of(kind, rows)], schema_of(kind)))

    @classmethod
    def open(cls, kind: type[Row], path: Path) -> RowTable[Row]:
        """Map a file of a RowWriter."""
        return cls(kind, _map(path))

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, number: int) -> Row: ...

    @overload
    def __getitem__(self, number: slice) -> list[Row]: ...

    def __getitem__(self, number: int | slice) -> Row | list[Row]:
        """Return a row, or a list of those of a slice."""
        if isinstance(number, slice):
            start, stop, step = number.indices(len(self))
            if step != 1:
                return [self[each] for each in range(start, stop, step)]
            return list(self._rows(self.table.slice(start, max(0, stop - start))))
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return next(self._rows(self.table.slice(number % len(self), 1)))

    def __iter__(self) -> Iterator[Row]:
        return self._rows(self.table)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (N,)."""
        return self.column(LENGTH).astype(np.int64)

    def longest(self, name: str) -> int:
        """Return how long the longest list of a column is; 0 without rows."""
        lengths = (chunk.value_lengths() for chunk in self.table.column(name).chunks)
        return max((int(np.asarray(each).max()) for each in lengths if len(each)), default=0)

    @property
    def names(self) -> Names:
        """Where each row stands in its source."""
        return Names(self.table)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of numbers, (N,); NaN where a row has none."""
        return self.table.column(name).to_numpy()

    def _rows(self, table: pa.Table) -> Iterator[Row]:
        names = [field.name for field in fields(self._kind)]  # pyright: ignore[reportArgumentType]
        for batch in table.select(names).to_batches():
            for values in batch.to_pylist():
                yield self._kind(**values)


class Names(Sequence[str]):
    """The places of a table's rows, read one by one."""

    def __init__(self, table: pa.Table) -> None:
        self._column = table.column("where")

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, number: Any) -> Any:
        return self._column[number].as_py()


class RowWriter:
    """A file to which rows are appended, a batch at a time."""

    def __init__(self, kind: type[Any], path: Path) -> None:
        self._kind = kind
        self._sink = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._sink, schema_of(kind))

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._sink.close()

    def append(self, content: Any) -> None:
        """Append rows, as `batch_of(...).serialize()` has them."""
        batch = pa.ipc.read_record_batch(pa.py_buffer(content), schema_of(self._kind))
        if len(batch):
            self._stream.write_batch(batch)


@cache
def schema_of(kind: type[Any]) -> pa.Schema:
    """Return the columns of a kind of row."""
    hints = get_type_hints(kind)
    columns = [pa.field(field.name, _TYPES[hints[field.name]]) for field in fields(kind)]
    return pa.schema([*columns, pa.field(LENGTH, pa.int32())])


def batch_of(kind: type[Any], rows: Sequence[EncodedRow]) -> pa.RecordBatch:
    """Return rows as columns."""
    schema = schema_of(kind)
    columns = [_column([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.record_batch(columns, schema=schema)


def mapped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return batches as a table that lies in a file without a name."""
    with TemporaryDirectory() as folder:  # what is mapped stays when its name goes
        path = Path(folder) / "rows.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
        return _map(path)


def dataset_of(table: pa.Table, more: Mapping[str, NDArray[Any]] | None = None) -> Dataset:
    """Return a table with the numbers of its rows as a data set for a trainer.

    more: columns, (N,) each, to put beside it.
    """
    from datasets import Dataset
    from datasets.fingerprint import generate_random_fingerprint
    from datasets.table import InMemoryTable

    for name, values in {ROW: np.arange(table.num_rows), **(more or {})}.items():
        table = table.append_column(name, pa.array(values))
    # Without a fingerprint of its own it would be hashed whole.
    return Dataset(InMemoryTable(table), fingerprint=generate_random_fingerprint())


def _map(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()


def _column(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    lists = list(values)
    if not pa.types.is_list(kind) or not lists:
        return pa.array(lists, kind)
    ends = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    # A twentieth of the time that Arrow takes over lists of lists.
    ids = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(ends[-1]))
    return pa.ListArray.from_arrays(ends, ids)
