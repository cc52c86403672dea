"""A published benchmark as a Task: its examples are made of rows that lie in a file or on the hub.

Reads nothing itself: whoever knows files and the hub hands the rows of each split in. A subclass
says what one row means; what of it is the prompt, the answer, the document.
"""

import hashlib
import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

from eval.task import Example, Split, Task

# Each row with the place it stands at, as `test.jsonl:12`.
Rows = Callable[[], Iterable[tuple[str, Mapping[str, Any]]]]
Value = TypeVar("Value")

# Settings that say where rows lie and nothing else: they are in no task's name.
PLACES = ("test", "validation", "train", "file", "revision")


class RowsError(ValueError):
    """Rows that a benchmark needs are not there, or not as it needs them."""


@dataclass(frozen=True)
class Row:
    """A row of a benchmark, whose columns are looked up with their types. where: its place."""

    where: str
    fields: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Return a text; RowsError where there is none."""
        return self.value(column, str, "a text")

    def texts(self, column: str) -> list[str]:
        """Return a list of texts; RowsError where there is none."""
        values = self.value(column, list, "a list of texts")
        if not all(isinstance(each, str) for each in values):
            raise RowsError(f"{self.where}: `{column}` is not a list of texts")
        return cast("list[str]", values)

    def value(self, column: str, kind: type[Value], said: str) -> Value:
        """Return a column's value, which must be of a type; `said` names it in the error."""
        if column not in self.fields:
            there = ", ".join(map(str, self.fields)) or "none"
            raise RowsError(f"{self.where}: there is no column `{column}`; the columns are {there}")
        value = self.fields[column]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RowsError(f"{self.where}: `{column}` is not {said}")
        return value


class BenchmarkTask(Task):
    """A skill whose questions somebody published.

    hub, subset, hub_splits: where the hub has it, and what our splits are called there; without
    `hub` rows come from files only.
    is_one_file: the file that is published holds all splits.

    Items come in the order of a hash of their ids, so that the first ones are a fair sample and do
    not depend on the order of the rows. What is in the test split is left out of the others.
    """

    kind = "skill"
    hub: ClassVar[str] = ""
    subset: ClassVar[str | None] = None
    hub_splits: ClassVar[Mapping[Split, str]] = {}
    is_one_file: ClassVar[bool] = False

    def __init__(self, _rows: Mapping[Split, Rows]) -> None:
        self._rows = _rows
        self._examples: dict[Split, list[Example]] = {}

    @abstractmethod
    def example(self, row: Row) -> Example:
        """Return what a row asks; RowsError for one that lacks something."""

    def is_in(self, row: Row, split: Split) -> bool:
        """Return whether a row belongs to the split that its source was given for."""
        return True

    def remark(self) -> str:
        """Return what else is to be said of the rows, once they are read; empty for nothing."""
        return ""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are rows of."""
        return tuple(self._rows)

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield the split's examples; RowsError where it has no rows."""
        if split not in self._examples:
            self._examples[split] = self._read(split)
        return iter(self._examples[split])

    def documents(self, seed: int) -> Iterator[str]:
        """Yield the training examples as text; another seed gives another order."""
        texts = list(self.texts("train"))
        random.Random(f"{self.name} {seed}").shuffle(texts)
        return iter(texts)

    def held_out_documents(self, seed: int) -> Iterator[str]:
        """Yield the validation examples as text: passes over the training ones show the same."""
        return self.texts("validation")

    def texts(self, split: Literal["train", "validation"]) -> Iterator[str]:
        """Yield a split's examples as text, worked out where they are."""
        for example in self.examples(split):
            whole = example.document + example.continuation
            if example.worked_document:
                whole = example.worked_document + example.worked_continuation
            yield whole.strip()

    def _read(self, split: Split) -> list[Example]:
        if split not in self._rows:
            raise RowsError(self._no_rows(split))
        rows = (Row(where, fields) for where, fields in self._rows[split]())
        examples = [self.example(row) for row in rows if self.is_in(row, split)]
        if not examples:
            raise RowsError(f"`{self.name}`: none of its rows is in the {split} split")
        if split != "test" and "test" in self._rows:
            asked = {example.id for example in self.examples("test")}
            examples = [example for example in examples if example.id not in asked]
        return sorted(examples, key=lambda each: hashlib.sha256(each.id.encode()).digest())

    def _no_rows(self, split: Split) -> str:
        has = ", ".join(self._rows)
        lacks = f"`{self.name}` has no {split} rows (there are: {has})"
        if split == "test":
            return f"{lacks}; give them with `test=FILE`"
        if split == "validation":
            return f"{lacks}; give some with `validation=FILE`, or other data to evaluate on"
        give = "give `train=FILE` if you have some, or leave `few-shot` out of `styles`"
        return f"{lacks}: nothing to train on, and no demonstrations to show; {give}"


def digest(*texts: str) -> str:
    """Return an id made of texts; white space at ends and in a row makes no difference."""
    plain = "\0".join(" ".join(text.split()) for text in texts)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
