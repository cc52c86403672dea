"""Does a query select the rows that a reference query selects? Both run confined, on SQLite.

The reference is JSON text: `{"schema": "CREATE TABLE ...; INSERT ...", "query": "SELECT ..."}`.
`schema` may be a list: the rows must agree on each database, which a query that spells out the
rows of one of them does not.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from reward import extract
from reward.sandbox import run_select
from reward.verdict import Verdict

# What is not closed goes on to the end, so that the rest is not searched again.
_QUOTED = r"'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)"
_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"
_PART = re.compile(
    rf"{_QUOTED}|{_COMMENT}|[()]|(?P<order>\border(?:\s|{_COMMENT})++by\b)",
    re.DOTALL | re.IGNORECASE,
)
_STATEMENT_END = re.compile(rf"{_QUOTED}|{_COMMENT}|(?P<end>;)", re.DOTALL)
_NOTHING = re.compile(rf"(?:[\s;]|{_COMMENT})*+", re.DOTALL)
_SIGNIFICANT_DIGITS = 9

Row = tuple[Any, ...]


def sql(response: str, reference: str, *, timeout_s: float = 3.0) -> Verdict:
    """Compare the rows: in order if the reference query has an ORDER BY at its top, else as a bag.

    The query is the response's last SQL code block, or all of it. One SELECT (or WITH, VALUES) is
    accepted, which can read tables and nothing else. Columns count by position, not by name; 2 is
    2.0, and floats are compared to nine digits. Rows that tie in the reference's order are in none:
    a reference should order fully. timeout_s: for each database.
    """
    query = extract.code_block(response, "sql")
    query = without_end((response if query is None else query).strip())
    try:
        schemas, expected_query = _parts(reference)
        expected = [_expected(schema, expected_query) for schema in schemas]
    except _Ungradable as error:
        return Verdict(None, query, str(error))
    for schema, rows in zip(schemas, expected, strict=True):
        outcome = run_select(schema, query, timeout_s=timeout_s)
        if outcome.status == "infrastructure":
            return Verdict(None, query, outcome.reason)
        if outcome.status != "finished":
            return Verdict(0.0, query, outcome.reason)
        found = outcome.answers[0].value
        if not same_rows(found, rows, in_order=orders_its_rows(expected_query)):
            return Verdict(0.0, query, f"expected {_shown(rows)}, found {_shown(found)}")
    return Verdict(1.0, query, "the expected rows")


def same_rows(found: list[Row], expected: list[Row], *, in_order: bool) -> bool:
    """Whether the rows are the same, and come in the same order if that is asked."""
    if len(found) != len(expected):  # before rows by the thousand are compared
        return False
    first, second = list(map(_normalised, found)), list(map(_normalised, expected))
    return first == second if in_order else Counter(first) == Counter(second)


def orders_its_rows(query: str) -> bool:
    """Whether a query has an ORDER BY outside of all brackets, strings and comments."""
    depth = 0
    for part in _PART.finditer(query):
        if part["order"] and depth == 0:
            return True
        depth = max(0, depth + (part[0] == "(") - (part[0] == ")"))
    return False


def without_end(query: str) -> str:
    """Return a query without the semicolons at its end, of which SQLite takes one only."""
    for part in _STATEMENT_END.finditer(query):
        if part["end"]:
            rest = _NOTHING.match(query, part.start())
            is_last = rest is not None and rest.end() == len(query)
            return query[: part.start()] if is_last else query
    return query


class _Ungradable(Exception):
    """The reference, or the machine, does not say which rows are expected."""


@lru_cache(maxsize=256)
def _expected(schema: str, query: str) -> list[Row]:
    outcome = run_select(schema, query, timeout_s=30.0)
    if outcome.status != "finished":
        raise _Ungradable(f"the reference query gives no rows: {outcome.reason}")
    return outcome.answers[0].value


def _parts(reference: str) -> tuple[Sequence[str], str]:
    """Return the schemas and the query of a reference."""
    try:
        match json.loads(reference):
            case {"schema": str(schema), "query": str(query)}:
                return [schema], query
            case {"schema": [str(), *_] as schemas, "query": str(query)}:
                return schemas, query
            case _:
                raise _Ungradable('the reference is not {"schema": "CREATE ...", "query": "..."}')
    except json.JSONDecodeError as error:
        raise _Ungradable(f"the reference is no JSON: {error}") from error


def _normalised(row: Row) -> Row:
    return tuple(map(_normalised_cell, row))


def _normalised_cell(cell: Any) -> Any:
    if isinstance(cell, float):
        rounded = float(f"{cell:.{_SIGNIFICANT_DIGITS}g}")
        return int(rounded) if rounded.is_integer() else rounded
    return cell


def _shown(rows: list[Row]) -> str:
    shown = ", ".join(map(str, rows[:2]))
    return f"{len(rows)} rows ({shown[:60]}{', ...' if len(rows) > 2 or len(shown) > 60 else ''})"
