"""Queries are right by their rows, whatever their words; only reading is possible."""

import json

import pytest

from reward.verifiers.sql import orders_its_rows, same_rows, sql

SCHEMA = """
create table people(name text, city text, age integer);
insert into people values ('Ann', 'Lima', 30), ('Bob', 'Rome', 40), ('Cid', 'Lima', 50);
"""
OTHER = "create table people(name, city, age); insert into people values ('Eve', 'Oslo', 20);"


def reference(query: str, schema: object = SCHEMA) -> str:
    return json.dumps({"schema": schema, "query": query})


COUNTS = reference("select city, count(*) from people group by city")


@pytest.mark.parametrize(
    "response",
    [
        "SELECT city, COUNT(*) AS n FROM people GROUP BY 1 ORDER BY n DESC",
        "```sql\nselect city, sum(1) from people group by city;\n```",
        "with c as (select city from people) select city, count(city) * 1.0 from c group by city",
        "-- the count\nselect city, count(*) from people group by city -- done",
        "values ('Lima', 2), ('Rome', 1)",
        "select city, count(*) from people group by city;;",
        ";select city, count(*) from people group by city",
        "select city, count(*) from people group by city; ; -- done;\n;/* ;; */",
        "select city, count(*) from people where ';;' <> '; ' group by city;\n;",
    ],
)
def test_a_query_is_right_by_its_rows(response):
    assert sql(response, COUNTS).score == 1.0


@pytest.mark.parametrize(
    "response",
    [
        "",
        "select city from people",
        "select count(*), city from people group by city",
        "select city, count(*) from people group by city limit 1",
        "select 'Lima', 2 union all select 'Lima', 2 union all select 'Rome', 1",
        "select city, count(*) from people group by city; select 1",
        "select city, count(*) from people group by city;; select 1;;",
        "select city, count(*) from people group by city; /* ;; */ values (1)",
        "select * from nowhere",
        "not sql",
        "delete from people returning city, 1",
        "pragma user_version",
        "explain select city, count(*) from people group by city",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select i, i from n",
        "select hex(zeroblob(1000000000)), 1",
        "\x00\ud800",
    ],
)
def test_a_query_with_other_rows_or_none_is_wrong(response):
    verdict = sql(response, COUNTS, timeout_s=0.3)
    assert verdict.score == 0.0
    assert verdict.reason
    assert len(verdict.reason) <= 200


def test_rows_are_compared_in_order_only_if_the_reference_orders_them():
    ordered = reference("select name from people order by age desc")
    assert sql("select name from people order by age desc", ordered).score == 1.0
    assert sql("select name from people order by age", ordered).score == 0.0
    assert sql("select name from people", reference("select name from people")).score == 1.0


@pytest.mark.parametrize(
    ("query", "is_ordered"),
    [
        ("select 1 order  by 1", True),
        ("select 1 from (select 2 order by 1)", False),
        ("select 1 from (select (2) order by 1) ORDER\nBY 1", True),
        ("select rank() over (order by a) from t", False),
        ("select 'order by' from t -- order by", False),
        ('select "order by" from t /* order by */', False),
    ],
)
def test_an_order_counts_at_the_top_of_a_query_only(query, is_ordered):
    assert orders_its_rows(query) is is_ordered


def test_rows_that_are_spelled_out_are_wrong_on_a_second_database():
    both = reference("select count(*) from people", [SCHEMA, OTHER])
    assert sql("select 3", both).score == 0.0
    assert sql("select count(name) from people", both).score == 1.0


def test_numbers_are_compared_by_value_and_other_cells_exactly():
    assert same_rows([(1, 0.1 + 0.2)], [(1.0, 0.3)], in_order=True)
    assert not same_rows([("1",)], [(1,)], in_order=False)
    assert not same_rows([(None,)], [(0,)], in_order=False)
    assert not same_rows([(1,), (1,)], [(1,)], in_order=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"schema": [], "query": "select 1"}',
        reference("select * from nowhere"),
        reference("select 1", "create tabel"),
    ],
)
def test_a_reference_that_cannot_be_run_says_nothing_about_the_query(text):
    verdict = sql("select 1", text)
    assert verdict.score is None
    assert "reference" in verdict.reason
