"""What terminal, report and card say of copies and of test items among training rows."""

from pipeline.report.screening import describe_screening, summarize_screening
from pipeline.report.screening import test_items_found as items_found

FOUND = {
    "rows_repeated": 2,
    "rows_overlapping": 3,
    "test_items_overlapping": 1,
    "test_items_compared": 40,
    "overlaps": ["x.jsonl: 3 of 9 rows hold test items"],
}


def test_rows_that_were_trained_on_are_told_from_rows_that_were_left_out():
    dropped = {**FOUND, "rows_dropped_overlapping": 3}
    del dropped["rows_overlapping"]
    assert items_found(FOUND) == "3 rows, which were trained on, hold 1 of 40"
    assert items_found(dropped) == "3 rows held 1 of 40 and were left out"
    assert len(summarize_screening(FOUND)) == 2
    assert describe_screening(FOUND)[-1] == FOUND["overlaps"][0]


def test_that_none_was_found_is_said_where_one_was_looked_for():
    none = {"test_items_compared": 40, "test_items_overlapping": 0, "rows_overlapping": 0}
    assert describe_screening(none) == ["held against test items: no row holds any of 40"]
    assert summarize_screening(none) == []


def test_nothing_is_said_where_nothing_was_looked_for():
    assert describe_screening({"rows": 9}) == summarize_screening({"rows": 9}) == []
    assert items_found({"rows": 9}) == ""
