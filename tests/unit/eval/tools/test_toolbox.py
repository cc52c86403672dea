"""eval/tools/toolbox.py and the tools of our own: every call has an answer, whatever it does."""

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from eval.tools.calculator import calculator
from eval.tools.calls import Call
from eval.tools.python import python_tool
from eval.tools.sql import sql_tool
from eval.tools.tool import Tool, make_tool
from eval.tools.toolbox import CallRecord, Toolbox


def doubled(number: int, note: str = "") -> Any:
    """Double a number.

    Args:
        number: What to double.
        note: What to do instead: raise, exit, hang, sleep.
    """
    if note == "raise":
        raise KeyError(note)
    if note == "exit":
        raise SystemExit(3)
    while note == "hang":
        pass
    if note == "sleep":
        time.sleep(60)
    inner: list[Any] = []
    inner.append(inner)
    results = {"big": "x" * (1 << 20), "surrogate": "\ud800", "itself": inner}
    return results.get(note, {"doubled": 2 * number, "é": None})


def _run(tool: Tool, *arguments: Any) -> list[CallRecord]:
    (first, *_) = tool.parameters
    given = [one if isinstance(one, dict) else {first: one} for one in arguments]
    return Toolbox([tool]).run([Call(tool.name, one) for one in given])


def test_a_users_function_answers_in_json_and_its_exceptions_are_answers() -> None:
    tool = make_tool(doubled, timeout_s=0.2)
    fine, raised, exits, itself, surrogate = _run(
        tool,
        {"number": 4},
        *({"number": 1, "note": note} for note in ("raise", "exit", "itself", "surrogate")),
    )
    assert (fine.answer, fine.error) == ('{"doubled": 8, "é": null}', None)
    assert (raised.answer, raised.error) == ("error: KeyError: 'raise'", "raised")
    assert (exits.answer, exits.error) == ("error: SystemExit: 3", "raised")
    assert itself.answer == "[[...]]"
    assert surrogate.answer == "?"


def test_a_call_that_hangs_is_answered_for_and_keeps_nobody_waiting() -> None:
    began_s = time.perf_counter()
    hangs, sleeps, fine = _run(
        make_tool(doubled, timeout_s=0.3),
        *({"number": 1, "note": note} for note in ("hang", "sleep", "")),
    )
    assert time.perf_counter() - began_s < 2
    assert hangs.error == sleeps.error == "timeout"
    assert hangs.answer == "error: TimeoutError: doubled did not end within 0.3 s"
    assert fine.error is None
    time.sleep(0.1)
    running = [thread for thread in threading.enumerate() if thread.name == "tool doubled"]
    assert len(running) <= 1  # the loop was ended; a sleep cannot be


def test_a_megabyte_of_result_is_cut_and_said_to_be() -> None:
    (record,) = _run(make_tool(doubled), {"number": 1, "note": "big"})
    assert record.is_cut
    assert record.answer == "x" * 2000 + "... (cut)"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "number is missing"),
        ({"number": "4"}, "number of doubled is no integer"),
        ({"number": True}, "number of doubled is no integer"),
        ({"number": 1, "self": 2}, "takes number, note, not self"),
    ],
)
def test_arguments_that_do_not_fit_are_told_by_name(arguments: Any, problem: str) -> None:
    (record,) = _run(make_tool(doubled), arguments)
    assert record.error == "arguments"
    assert problem in record.answer
    assert len(record.arguments) <= 500


def test_unknown_and_malformed_calls_are_told_apart() -> None:
    box = Toolbox([make_tool(calculator, is_quick=True)])
    unknown, malformed = box.run([Call("calc", {}), Call("", {}, "the call is no JSON")])
    assert unknown.answer == "error: there is no tool calc; calculator"
    assert (unknown.error, malformed.error) == ("unknown", "malformed")
    assert malformed.answer == "error: the call is no JSON"


def test_async_tools_are_awaited_together_and_within_their_time() -> None:
    async def waits(seconds: float) -> str:
        """Wait.

        Args:
            seconds: How long.
        """
        await asyncio.sleep(seconds)
        return "waited"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def outcome(awaitable: Any) -> tuple[Any, BaseException | None]:
        return await awaitable, None

    def start(awaitable: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(outcome(awaitable), loop)

    box = Toolbox([make_tool(waits, timeout_s=0.5)], start)
    began_s = time.perf_counter()
    *fine, late = box.run([Call("waits", {"seconds": s}) for s in [0.2] * 8 + [9.0]])
    took_s = time.perf_counter() - began_s
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert {record.answer for record in fine} == {"waited"}
    assert late.error == "timeout"
    assert took_s < 1.2


def test_python_prints_into_the_answer_and_its_errors_name_the_line() -> None:
    tool = python_tool(timeout_s=1, max_result_characters=2000)
    programs = (
        *("print('a')\n2 + 3", "x = 1", "x", "x = 1\n1/0", "x =", "print('y' * 10**7)"),
        *("while True: pass", "import os\nos.fork()", "import os\nos._exit(0)", "[" * 9999),
        *("open('/etc/passwd')", "raise SystemExit", "import sys\nsys.stdout = None\n3"),
    )
    records = _run(tool, *programs)
    assert [record.answer for record in records[:5]] == [
        "a\n5\n",
        "(nothing was printed)",
        "error: NameError in line 1: name 'x' is not defined",
        "error: ZeroDivisionError in line 2: division by zero",
        "error: SyntaxError in line 1: invalid syntax",
    ]
    assert records[5].is_cut
    assert records[6].error == "timeout"
    assert all(record.error == "raised" for record in records[7:12])
    assert all(len(record.answer) < 2100 for record in records)


def _database(folder: Path) -> Path:
    path = folder / "people.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE p(name, age); INSERT INTO p VALUES ('Ada', 36);")
    connection.close()
    return path


@pytest.mark.parametrize("kind", ["script", "file"])
def test_sql_reads_and_nothing_else(kind: str, tmp_path: Path) -> None:
    source = _database(tmp_path)
    if kind == "script":
        source = tmp_path / "people.sql"
        source.write_text("CREATE TABLE p(name, age); INSERT INTO p VALUES ('Ada', 36);")
    before = source.read_bytes()
    tool = sql_tool(source, timeout_s=0.5, max_result_characters=2000)
    assert "Tables: p(name, age)." in tool.schema["function"]["description"]
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT "
    fine, many, late, *refused = _run(
        tool,
        "SELECT * FROM p;",
        f"{endless} x FROM c LIMIT 99",
        f"{endless} count(*) FROM c",
        *("DELETE FROM p", "ATTACH 'x.db' AS x", "PRAGMA table_info(p)", "SELECT 1; SELECT 2"),
        *("SELECT randomblob(100000000)", "SELECT load_extension('x')", "", "SELEC", "\x00"),
        "CREATE TEMP TABLE t(x)",
    )
    assert fine.answer == "name | age\nAda | 36"
    assert many.answer.endswith("\n50\n... (more than 50 rows)")
    assert late.error == "timeout"
    assert {record.error for record in refused} == {"raised"}
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()).count(tmp_path / "x.db") == 0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.db", "x" * 100), ("b.sql", "CREATE"), ("c.sql", "SELECT 1;")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=name):
            sql_tool(tmp_path / name, timeout_s=1, max_result_characters=100)


def test_a_function_without_annotations_or_descriptions_is_no_tool() -> None:
    def bare(x):
        """Do."""

    def undescribed(x: int) -> int:
        """Do."""
        return x

    for function in (bare, undescribed):
        with pytest.raises(ValueError, match=function.__name__):
            make_tool(function)
