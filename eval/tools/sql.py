"""The tool `sql`: a query of the model's on an SQLite database that it can only read.

The database is a file, opened read-only, or a script of statements, run once. A query may select
and nothing else, which SQLite itself is told; time, rows and the size of values are limited.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eval.tools.tool import ToolError, make_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eval.tools.tool import Tool

_MAX_ROWS = 50
_MAX_VALUE_BYTES = 1 << 20
_MAX_QUERY_CHARACTERS = 10_000
_STEPS_BETWEEN_LOOKS = 10_000  # at the clock, in SQLite's instructions
_MAX_TABLES_SHOWN = 20
_READING = (
    *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ),
    *(sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE),
)


def sql_tool(source: Path, *, timeout_s: float, max_result_characters: int) -> Tool:
    """Return the tool for a database file, or for a `.sql` file with the statements that make one.

    Raises ValueError for a file that is neither.
    """
    database = _Database(source)

    def sql(query: str) -> str:
        """Run a SELECT on the database and return its rows.

        Args:
            query: One statement of SQLite that reads.
        """
        return database.select(query, timeout_s)

    tool = make_tool(sql, timeout_s=None, max_result_characters=max_result_characters)
    schema = json.loads(json.dumps(tool.schema))
    schema["function"]["description"] += f" Tables: {database.tables()}."
    return replace(tool, schema=schema)


class _Database:
    """Opens the database anew for each call: connections belong to threads."""

    def __init__(self, source: Path) -> None:
        self._open: Callable[[], sqlite3.Connection]
        if source.suffix == ".sql":
            content = _run_script(source)
            self._open = lambda: _of_bytes(content)
        else:
            address = f"{source.resolve().as_uri()}?mode=ro"
            self._open = lambda: sqlite3.connect(address, uri=True)
        self._columns_by_table = self._read_tables(source)

    def tables(self) -> str:
        """Return the tables with their columns, as a model reads them."""
        shown = [
            f"{table}({', '.join(columns)})" for table, columns in self._columns_by_table.items()
        ]
        return ", ".join(shown[:_MAX_TABLES_SHOWN])

    def select(self, query: str, timeout_s: float) -> str:
        """Return the rows as lines, the columns' names first."""
        if len(query) > _MAX_QUERY_CHARACTERS:
            raise ToolError(f"the query has more than {_MAX_QUERY_CHARACTERS} characters")
        connection = self._open()
        try:
            return self._select(connection, query, time.monotonic() + timeout_s)
        except sqlite3.Error as error:
            raise ToolError(str(error)) from error
        except (ValueError, sqlite3.Warning) as error:  # a null character, a second statement
            raise ToolError(f"it is no query ({error})") from error
        finally:
            connection.close()

    def _select(self, connection: sqlite3.Connection, query: str, deadline_s: float) -> str:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: time.monotonic() > deadline_s, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = connection.execute(query)
            rows = cursor.fetchmany(_MAX_ROWS + 1)
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline_s:
                raise TimeoutError("the query took too long") from error
            raise
        if cursor.description is None:
            raise ToolError("it is no query")
        lines = [" | ".join(column[0] for column in cursor.description)]
        lines += [" | ".join(map(_cell, row)) for row in rows[:_MAX_ROWS]]
        if len(rows) > _MAX_ROWS:
            lines.append(f"... (more than {_MAX_ROWS} rows)")
        return "\n".join(lines)

    def _read_tables(self, source: Path) -> dict[str, list[str]]:
        try:
            connection = self._open()
            try:
                found = connection.execute(
                    "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p "
                    "WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%'"
                ).fetchall()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise ValueError(f"`{source.name}` is no SQLite database ({error})") from error
        columns_by_table: dict[str, list[str]] = {}
        for table, column in found:
            columns_by_table.setdefault(table, []).append(column)
        if not columns_by_table:
            raise ValueError(f"`{source.name}` has no table")
        return columns_by_table


def _run_script(source: Path) -> bytes:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(source.read_text(encoding="utf-8"))
        connection.commit()
        return connection.serialize()
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:
        raise ValueError(f"`{source.name}` cannot be run ({error})") from error
    finally:
        connection.close()


def _of_bytes(content: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    return connection


def _authorize(action: int, _first: str | None, second: str | None, *_about: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and second in ("load_extension", "fts3_tokenizer"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return value.hex() if isinstance(value, bytes) else str(value)
