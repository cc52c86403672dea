"""The sql task: its queries against SQLite, what their rows can tell apart, what `verify` takes."""

import json
import re
import sqlite3
from contextlib import closing
from functools import cache

import pytest

from eval.task import Example, Split
from eval.tasks.sql import Sql

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Sql()
SCHEMA = (
    "CREATE TABLE pets(name, kind, age, weight); INSERT INTO pets VALUES "
    "('Abe', 'dog', 5, 20), ('Bob', 'cat', 6, 10), ('Cal', 'dog', 7, 30);"
)


@cache
def examples() -> list[Example]:
    return [example for split in SPLITS for example in TASK.examples(split)]


def results(example: Example, queries: list[str]) -> list[list]:
    """What queries of our own give; in order where the example's query orders."""
    reference = json.loads(example.reference)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(reference["schema"])
        found = [connection.execute(query).fetchall() for query in queries]
    return found if "ORDER BY" in reference["query"] else list(map(sorted, found))


@pytest.mark.parametrize("max_conditions", [2, 3])
def test_every_query_finds_something_and_no_wrong_one_finds_the_same(max_conditions):
    for example in examples() if max_conditions == 2 else Sql(3).examples("test"):
        query = json.loads(example.reference)["query"]
        assert query == example.id == example.response.removesuffix(";")
        flawed = [each.response for each in example.flawed]
        expected, *others = results(example, [query, *example.distractors, *flawed])
        assert expected not in ([], [(None,)]), example
        assert expected not in others, example


def test_nothing_but_the_order_asked_for_decides_which_rows_come_first():
    """Rows that tie would let a right query fail."""
    for example in examples():
        order = re.search(r"ORDER BY (\w+)", example.id)
        if order:
            table = re.search(r"FROM (\w+)", example.id)[1]
            (values,) = results(example, [f"SELECT {order[1]} FROM {table}"])
            assert len(set(values)) == len(values), example


def test_no_query_of_a_document_is_a_test_item():
    test_ids = {example.id for example in TASK.examples("test")}
    found = {
        query
        for seed in range(3)
        for document in TASK.documents(seed)
        for query in re.findall(r"SELECT [^;]*", document)
    }
    assert len(found) > 1_000
    assert not found & test_ids


def score(response: str, query: str) -> float | None:
    return TASK.verify(response, json.dumps({"schema": SCHEMA, "query": query})).score


def test_any_query_with_the_result_is_right():
    query = "SELECT name FROM pets WHERE kind = 'dog'"
    for response in (
        f"{query};",
        f" {query}",
        "select Name from Pets where kind == 'dog'",
        "SELECT name FROM pets WHERE age <> 6 ORDER BY age DESC",
        f"This finds them:\n```sql\n{query};\n```",
        "WITH dogs AS (SELECT * FROM pets WHERE kind = 'dog') SELECT name FROM dogs",
    ):
        assert score(response, query) == 1.0, response


def test_order_counts_only_where_it_was_asked_for():
    assert score("SELECT name FROM pets ORDER BY age DESC;", "SELECT name FROM pets") == 1.0
    ordered = "SELECT name FROM pets ORDER BY weight"
    assert score("SELECT name FROM pets ORDER BY weight;", ordered) == 1.0
    assert score("SELECT name FROM pets;", ordered) == 0.0


def test_what_is_no_single_query_with_the_result_is_wrong():
    query = "SELECT name FROM pets WHERE kind = 'dog'"
    for response in (
        "",
        "Abe and Cal",
        "SELECT name FROM pets",
        "SELECT kind FROM pets WHERE kind = 'dog'",
        "SELECT name, age FROM pets WHERE kind = 'dog'",
        "SELECT DISTINCT kind FROM pets WHERE kind = 'dog'",
        f"{query}; {query}",
        f"DELETE FROM pets WHERE kind = 'cat'; {query}",
        "DELETE FROM pets",
        "PRAGMA table_info(pets)",
        "SELECT name FROM cats",
    ):
        assert score(response, query) == 0.0, response


@pytest.mark.parametrize("max_conditions", [1, 2, 3])
def test_queries_have_as_many_conditions_as_are_allowed(max_conditions):
    queries = [example.id for example in Sql(max_conditions).examples("test")]
    assert len(queries) >= 220
    assert max(len(re.findall("WHERE|AND|OR ", query.split("ORDER")[0])) for query in queries) == (
        max_conditions
    )


def test_conditions_in_another_order_are_no_other_query():
    for example in Sql(3).examples("test"):
        table = re.search(r"\((.*?)\)", example.document)[1].split(", ")
        columns = re.findall(r"(\w+) [<>=]", example.id)
        assert columns == sorted(columns, key=table.index)


def test_other_numbers_of_conditions_are_refused():
    with pytest.raises(ValueError, match="max_conditions is 1, 2 or 3, not 4"):
        Sql(4)
