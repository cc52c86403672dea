"""Asking a table a question in SQL: the query, run on SQLite in a sandbox. A skill task.

Any query with the right result is right. The rows are made for the query, so that it gives another
result than those it is easily mistaken for; a query is one item, however it is asked for. Not a
test of joins: every question is about one table.
"""

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from eval.task import Example, FlawedResponse, Metric, Split, Task, split_of
from eval.tasks.lists import PAIR, in_full_lists
from reward.verdict import Verdict
from reward.verifiers.sql import sql

Cell = int | str
Row = tuple[Cell, ...]

_ONE_CONDITION = ("select", "count", "aggregate", "order", "limit", "distinct")
_MORE_CONDITIONS = ("two conditions", "three conditions")
_NUM_EXAMPLES: dict[Split, int] = {"train": 1_603, "validation": 119, "test": 259}
_NUM_QUERIES = 1_460  # that one pass of documents lists
_NUM_EXPLAINED = 325
_TIMEOUT_S = 1.0
_NUM_ROWS = 9
_MAX_DRAWS = 2  # of rows, until all mistakes show
_CONSTANTS = range(5, 41)
_NUMBERS = range(1, 120)  # in rows
_SHARE_WORDS = 0.15  # of conditions that compare a word
_SHARE_LIMITED_WITH_CONDITION = 0.8
_NAMES = ("Abe", "Bob", "Cal", "Dot", "Eva", "Gus", "Ida", "Jim", "Kim", "Leo", "Max", "Sue")


@dataclass(frozen=True)
class Table:
    """A table with a name column, a column of words and two of numbers."""

    name: str
    words: str
    values: tuple[str, ...]
    numbers: tuple[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in order."""
        return ("name", self.words, *self.numbers)

    @property
    def head(self) -> str:
        """The table with its columns: `pets(name, kind, age, weight)`."""
        return f"{self.name}({', '.join(self.columns)})"


_TABLES = (
    Table("pets", "kind", ("dog", "cat", "bird", "fish"), ("age", "weight")),
    Table("books", "topic", ("art", "music", "sport", "law"), ("price", "length")),
    Table("cars", "color", ("red", "blue", "green", "black"), ("price", "speed")),
    Table("players", "team", ("lions", "bears", "wolves", "hawks"), ("age", "score")),
    Table("plants", "color", ("red", "white", "pink", "yellow"), ("height", "age")),
    Table("rooms", "type", ("single", "double", "quiet", "large"), ("size", "cost")),
)
_SIGN_WORDS = {">": "above", "<": "below", "=": "of"}
_FUNCTION_WORDS = {"MAX": "highest", "MIN": "lowest", "AVG": "average", "SUM": "total"}


@dataclass(frozen=True)
class Condition:
    """`column sign value`, a word or a number."""

    column: str
    sign: str
    value: Cell

    def __str__(self) -> str:
        value = f"'{self.value}'" if isinstance(self.value, str) else self.value
        return f"{self.column} {self.sign} {value}"

    @property
    def said(self) -> str:
        """As something that a row has: `an age above 5`."""
        if isinstance(self.value, str):
            return f"the {self.column} {self.value}"
        article = "an" if self.column[0] in "aeiou" else "a"
        return f"{article} {self.column} {_SIGN_WORDS[self.sign]} {self.value}"

    def holds(self, cell: Cell) -> bool:
        """Whether a cell of the column meets it."""
        if isinstance(cell, str) or isinstance(self.value, str) or self.sign == "=":
            return cell == self.value
        return cell > self.value if self.sign == ">" else cell < self.value


@dataclass(frozen=True)
class Query:
    """A SELECT from one table; order: a column, with DESC if so; no limit is 0."""

    family: str
    table: Table
    selected: str
    conditions: tuple[Condition, ...]
    connective: str = "AND"
    order: str = ""
    limit: int = 0

    def __str__(self) -> str:
        parts = [f"SELECT {self.selected} FROM {self.table.name}"]
        if self.conditions:
            parts.append(f"WHERE {f' {self.connective} '.join(map(str, self.conditions))}")
        if self.order:
            parts.append(f"ORDER BY {self.order}")
        if self.limit:
            parts.append(f"LIMIT {self.limit}")
        return " ".join(parts)

    @property
    def split(self) -> Split:
        """The split of the query."""
        return split_of(f"sql {self}")


class Sql(Task):
    """Questions about one table: conditions, counts, aggregates, order, limits."""

    name = "sql"
    version = 3
    kind = "skill"
    summary = "SQL queries for questions about a table, run on SQLite in a sandbox"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 48
    document_stop = ("\n",)
    document_separator = "\n\n"

    def __init__(self, max_conditions: int = 2) -> None:
        if max_conditions not in (1, 2, 3):
            raise ValueError(f"max_conditions is 1, 2 or 3, not {max_conditions}")
        self._families = _ONE_CONDITION + _MORE_CONDITIONS[: max_conditions - 1]

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield as many queries of each family."""
        rng = random.Random(f"sql {len(self._families)} {split}")
        seen: set[str] = set()
        with closing(sqlite3.connect(":memory:")) as connection:
            while len(seen) < _NUM_EXAMPLES[split]:
                query = _query(self._families[len(seen) % len(self._families)], rng)
                if query.split == split and str(query) not in seen:
                    seen.add(str(query))
                    yield _example(query, connection, rng)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield tables with questions and their queries, and what parts of queries mean."""
        rng = random.Random(f"sql documents {seed}")
        told = [_document(self._training_query(rng), rng) for _ in range(_NUM_QUERIES)]
        between = self.document_separator
        documents = in_full_lists(told, rng, separator=between, most=PAIR)
        documents += [_explained(self._training_query(rng), rng) for _ in range(_NUM_EXPLAINED)]
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Run the response's query and compare its result with the reference's."""
        try:
            return sql(response, reference, timeout_s=_TIMEOUT_S)
        except ValueError:
            return Verdict(None, None, f"`{reference[:80]}` is no table with its query")

    def _training_query(self, rng: random.Random) -> Query:
        family = rng.choice(self._families)
        while True:
            query = _query(family, rng)
            if query.split == "train":
                return query


def _query(family: str, rng: random.Random) -> Query:
    """Return a query of the family with a table, columns and constants by chance."""
    table = rng.choice(_TABLES)
    column, other = rng.sample(table.numbers, 2)
    signs = "><=" if family in ("select", "count", "aggregate") else "><"
    number = Condition(column, rng.choice(signs), rng.choice(_CONSTANTS))
    second = Condition(other, rng.choice(signs), rng.choice(_CONSTANTS))
    word = Condition(table.words, "=", rng.choice(table.values))
    one = (word if rng.random() < _SHARE_WORDS else number,)
    order = rng.choice((other, f"{other} DESC"))
    match family:
        case "select" | "count":
            return Query(family, table, "name" if family == "select" else "COUNT(*)", one)
        case "aggregate":
            return Query(family, table, f"{rng.choice(list(_FUNCTION_WORDS))}({other})", one)
        case "order":
            return Query(family, table, "name", one, order=order)
        case "limit":
            some = (number,) if rng.random() < _SHARE_LIMITED_WITH_CONDITION else ()
            return Query(family, table, "name", some, order=order, limit=rng.randint(2, 4))
        case "distinct":
            return Query(family, table, f"DISTINCT {table.words}", (number,))
        case _:
            several = [word, number, second]
            if family == "two conditions":
                several = [number, rng.choice((word, second))]
            # In the order of the columns: the same conditions in another order are no other query.
            several.sort(key=lambda each: table.columns.index(each.column))
            connective = rng.choice(("AND", "OR"))
            selected = rng.choice(("name", "COUNT(*)"))
            return Query(family, table, selected, tuple(several), connective)


def _question(query: Query, rng: random.Random) -> str:
    """Return one of the ways to ask for the query."""
    name = query.table.name
    having = f" {query.connective.lower()} ".join(each.said for each in query.conditions)
    column = query.order.removesuffix(" DESC")
    extreme = "highest" if query.order.endswith("DESC") else "lowest"
    if query.limit:
        asked = f"{query.limit} have the {extreme} {column}"
        whole = f"{query.limit} {name} have the {extreme} {column}"
        ways = (f"Of the {name} with {having}, which {asked}?" if having else f"Which {whole}?",)
    elif query.order:
        ways = (
            f"Sort the names of the {name} with {having} by {column}, {extreme} first.",
            f"List the {name} with {having} by {column}, {extreme} first.",
        )
    elif query.selected == "name":
        ways = (
            f"Which {name} have {having}?",
            f"List the names of the {name} with {having}.",
            f"Name all {name} with {having}.",
        )
    elif query.selected == "COUNT(*)":
        ways = (f"How many {name} have {having}?", f"Count the {name} with {having}.")
    elif query.selected.startswith("DISTINCT"):
        ways = (
            f"Which {query.table.words}s do the {name} with {having} have?",
            f"List the different {query.table.words}s of the {name} with {having}.",
        )
    else:
        function, _, of = query.selected.removesuffix(")").partition("(")
        ways = (
            f"What is the {_FUNCTION_WORDS[function]} {of} of the {name} with {having}?",
            f"Find the {_FUNCTION_WORDS[function]} {of} of the {name} with {having}.",
        )
    return rng.choice(ways)


def _example(query: Query, connection: sqlite3.Connection, rng: random.Random) -> Example:
    rows, wrong = _telling_rows(query, connection, rng)
    question = _question(query, rng)
    reference = {"schema": _schema(query.table, rows), "query": str(query)}
    # One query for each flaw: the wrong answers to choose from are of different kinds.
    by_flaw = {flaw: f"{other};" for other, flaw in rng.sample(list(wrong.items()), len(wrong))}
    return Example(
        id=str(query),
        prompt=f"Table {query.table.head}.\n{question}",
        response=f"{query};",
        reference=json.dumps(reference, separators=(",", ":")),
        document=_asked(query, question),
        continuation=f" {query};",
        distractors=tuple(f" {other}" for other in by_flaw.values())[:3],
        flawed=tuple(FlawedResponse(other, flaw) for flaw, other in by_flaw.items())[:3],
        group=query.family,
    )


def _asked(query: Query, question: str) -> str:
    """Return the beginning of a document that the query goes on."""
    return f"{query.table.head}\nQuestion: {question}\nQuery:"


def _document(query: Query, rng: random.Random) -> str:
    return f"{_asked(query, _question(query, rng))} {query};"


def _explained(query: Query, rng: random.Random) -> str:
    """Return a question with its query and what the conditions mean, as a handbook says it."""
    means = [f"{each} means {each.said}." for each in query.conditions]
    return "\n".join([_question(query, rng), f"In SQL: {query};", *means])


def _mistakes(query: Query) -> dict[Query, str]:
    """Return queries that it is easily mistaken for, with what is wrong with each."""
    wrong: dict[Query, str] = {}

    def add(flaw: str, **changes: Any) -> None:
        wrong.setdefault(replace(query, **changes), flaw)

    table = query.table
    for place, condition in enumerate(query.conditions):
        before, after = query.conditions[:place], query.conditions[place + 1 :]
        if isinstance(condition.value, int):
            for value in (condition.value + 1, condition.value - 1):
                changed = replace(condition, value=value)
                add("another number", conditions=(*before, changed, *after))
            for sign in _SIGN_WORDS:
                add("another sign", conditions=(*before, replace(condition, sign=sign), *after))
            other = table.numbers[condition.column == table.numbers[0]]
            add("another column", conditions=(*before, replace(condition, column=other), *after))
        else:
            for value in table.values:
                changed = replace(condition, value=value)
                add("another word", conditions=(*before, changed, *after))
        add("leaves a condition out", conditions=(*before, *after))
    if len(query.conditions) > 1:
        add("and for or", connective="OR" if query.connective == "AND" else "AND")
    if query.order:
        column = query.order.removesuffix(" DESC")
        add("the other way round", order=column if query.order != column else f"{column} DESC")
        add("no order", order="")
    if query.limit:
        add("another limit", limit=query.limit + 1)
        add("no limit", limit=0)
    if query.selected.startswith("DISTINCT"):
        add("not distinct", selected=table.words)
    if "(" in query.selected:
        add("lists rows", selected="name")
    else:
        add("counts rows", selected="COUNT(*)")
    if query.family == "aggregate":
        column = query.selected.partition("(")[2]
        for function in _FUNCTION_WORDS:
            add("another function", selected=f"{function}({column}")
    wrong.pop(query, None)
    return wrong


def _telling_rows(
    query: Query, connection: sqlite3.Connection, rng: random.Random
) -> tuple[list[Row], dict[Query, str]]:
    """Return rows for which most of the query's mistakes show, and the mistakes that do."""
    table, mistakes = query.table, _mistakes(query)
    best: tuple[list[Row], dict[Query, str]] = ([], {})
    for _ in range(_MAX_DRAWS):
        rows = _rows(query, rng)
        connection.executescript(f"DROP TABLE IF EXISTS {table.name}; {_schema(table, rows)}")
        expected = _result(connection, query, query)
        showing = {
            other: flaw
            for other, flaw in mistakes.items()
            if _result(connection, other, query) != expected
        }
        if len(showing) > len(best[1]):
            best = (rows, showing)
        if len(showing) == len(mistakes):
            break
    return best


def _result(connection: sqlite3.Connection, asked: Query, intended: Query) -> list[Any]:
    """Return what a query gives, in order where the intended one orders."""
    found = connection.execute(str(asked)).fetchall()
    return found if intended.order else sorted(found)


def _schema(table: Table, rows: Sequence[Row]) -> str:
    """Return the statements that make the table and fill it; no cell needs escaping."""
    written = ", ".join(f"({', '.join(map(repr, row))})" for row in rows)
    return f"CREATE TABLE {table.head}; INSERT INTO {table.name} VALUES {written};"


def _rows(query: Query, rng: random.Random) -> list[Row]:
    """Return rows at both sides of each condition, which meet the others; and some at random.

    The numbers in a column without a condition all differ: no two rows tie when it orders them.
    """
    table, conditions = query.table, query.conditions
    names = rng.sample(_NAMES, _NUM_ROWS)
    words = rng.sample(table.values, len(table.values) - 1)  # so that some occur twice
    numbers = {column: rng.sample(_NUMBERS, _NUM_ROWS) for column in table.numbers}
    rows: list[Row] = []
    for place, name in enumerate(names):
        cells: dict[str, Cell] = {"name": name, table.words: rng.choice(words)}
        cells |= {column: numbers[column][place] for column in table.numbers}
        focus = conditions[place // 3] if place // 3 < len(conditions) else None
        for condition in conditions:
            if condition is focus and isinstance(condition.value, int):
                cells[condition.column] = condition.value + place % 3 - 1
            elif condition is not focus:
                # Beside `or`, a condition shows only where the other one does not hold.
                must_hold = query.connective == "AND" if focus or query.limit else None
                holds = rng.random() < 0.5 if must_hold is None else must_hold
                cells[condition.column] = _cell(condition, table, holds, rng)
        rows.append(tuple(cells[column] for column in table.columns))
    rng.shuffle(rows)
    return rows


def _cell(condition: Condition, table: Table, holds: bool, rng: random.Random) -> Cell:
    """Return a cell for which the condition holds or does not."""
    if holds and condition.sign == "=":
        return condition.value
    pool = _NUMBERS if isinstance(condition.value, int) else table.values
    while condition.holds(cell := rng.choice(pool)) != holds:
        pass
    return cell
