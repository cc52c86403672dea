"""What the sandbox promises to those who call it: values, limits, refusals, failures told apart."""

import json
import math
import os
import textwrap
import time
from collections import Counter, OrderedDict, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from reward.boxes import values
from reward.sandbox import (
    Call,
    run_calls,
    run_select,
    run_tests,
)

DOUBLE = "def double(x): return 2 * x"


def value_of(program: str, function: str, *arguments: object) -> object:
    (answer,) = run_calls(program, [Call(function, arguments)]).answers
    assert not answer.error
    return answer.value


def test_values_cross_the_wall_with_their_exact_types():
    sent = [None, True, 1, 1.0, -0.0, math.inf, "a\ud800\0", b"\xff", (1, [2]), {3}, frozenset({4})]
    sent += [{(1, 2): {"k": {5.0}}}, 10**4000, 2 + 3j, range(1, 9, 2), deque([1]), int, bytearray()]
    found = value_of("def same(x): return x", "same", sent)
    assert repr(found) == repr(sent)
    assert "4300 digits" in run_calls("def f(): return 10**5000", [Call("f")]).answers[0].error
    assert math.isnan(value_of("def nan(): return float('nan')", "nan"))


def test_an_instance_of_a_subclass_crosses_as_the_builtin_value_in_it():
    assert type(value_of("class I(int): pass\ndef one(): return I(1)", "one")) is int
    for value, plain in (
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (namedtuple("Pair", "a b")(1, 2), (1, 2)),
    ):
        crossed = values.loads(values.dumps(value))
        assert type(crossed) is type(plain)
        assert crossed == plain


@pytest.mark.parametrize(
    "text", ["{", '{"set": [[]]}', '{"what": 1}', '{"bytes": "x"}', '{"set": 1}']
)
def test_text_that_holds_no_value_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        values.loads(text)


def test_a_set_made_to_be_slow_is_refused_at_once():
    numbers = [number * (2**61 - 1) for number in range(1, 30_000)]
    start = time.monotonic()
    for text in (json.dumps({"set": numbers}), json.dumps({"dict": [[n, 0] for n in numbers]})):
        with pytest.raises(ValueError, match="comparisons"):
            values.loads(text)
    assert time.monotonic() - start < 5
    assert len(values.loads(json.dumps({"set": list(range(30_000))}))) == 30_000


def test_each_call_is_answered_with_its_value_or_its_exception():
    program = "calls = []\ndef take(x, *, plus=0):\n    calls.append(x)\n    return 6 // x + plus"
    calls = [Call("take", [2]), Call("take", [0]), Call("take", [3], {"plus": 1}), Call("none")]
    calls.append(Call("calls.append"))
    outcome = run_calls(program, calls)
    assert outcome.status == "finished"
    assert [answer.value for answer in outcome.answers] == [3, None, 3, None, None]
    errors = [answer.error.partition(":")[0] for answer in outcome.answers]
    assert errors == ["", "ZeroDivisionError", "", "NameError", "NameError"]


def test_more_calls_than_fit_into_a_socket_are_answered_in_order():
    calls = [Call("double", ["x" * 5000 + str(number)]) for number in range(200)]
    outcome = run_calls(DOUBLE, calls)
    assert [answer.value[-3:] for answer in outcome.answers[100:]] == [
        str(n) for n in range(100, 200)
    ]


def test_a_program_that_cannot_be_loaded_says_why():
    outcome = run_calls("def double(x) return", [Call("double", [1])])
    assert (outcome.status, outcome.answers) == ("failed", ())
    assert "SyntaxError" in outcome.reason


def test_a_program_gives_the_same_answer_every_time():
    program = "import random\ndef draw(): return [random.random(), list({'a', 'b', 'c', 'd'})]"
    with ThreadPoolExecutor(4) as threads:  # more than one zygote
        drawn = list(threads.map(lambda _: repr(value_of(program, "draw")), range(8)))
    assert len(set(drawn)) == 1


def test_a_main_block_does_not_run_and_standard_input_is_empty():
    program = "if __name__ == '__main__':\n    raise SystemExit\n"
    program += "def read():\n    try: return input()\n    except EOFError: return 'empty'"
    assert value_of(program, "read") == "empty"


def test_common_modules_can_be_imported_and_used():
    program = """
        from __future__ import annotations
        import bisect, collections, dataclasses, datetime, decimal, enum, functools, hashlib, heapq
        import doctest, getopt, gzip, html.parser
        import itertools, json, logging, math, re, sqlite3, statistics, string, typing, unittest
        from fractions import Fraction
        @dataclasses.dataclass
        class Point:
            x: int
        def use():
            day = datetime.datetime.strptime("2020-02-29", "%Y-%m-%d").weekday()
            rows = sqlite3.connect(":memory:").execute("select 1").fetchall()
            digest = hashlib.sha256(b"").hexdigest()[:4]
            return [day, rows, digest, str(Fraction(1, 3)), Point(1).x, "é".encode("utf-16-le")]
    """
    assert value_of(textwrap.dedent(program), "use") == [5, [(1,)], "e3b0", "1/3", 1, b"\xe9\0"]


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="128 MiB"):
        run_calls(DOUBLE, [], memory_bytes=1)
    with pytest.raises(ValueError, match="time"):
        run_calls(DOUBLE, [], timeout_s=0)
    with pytest.raises(TypeError, match="object is no plain value"):
        run_calls(DOUBLE, [Call("double", [object()])])


def test_memory_is_limited_as_asked():
    program = "def take(): return len(bytearray(200 << 20))"
    assert run_calls(program, [Call("take")], memory_bytes=512 << 20).answers[0].value == 200 << 20
    limited = run_calls(program, [Call("take")], memory_bytes=128 << 20)
    assert limited.answers[0].error == "MemoryError"


def test_tests_hold_or_say_which_line_does_not():
    assert run_tests(DOUBLE, "assert double(2) == 4").status == "finished"
    wrong = run_tests(DOUBLE, "x = 3\nassert double(2) == 4\nassert double(x) == 7\n")
    assert (wrong.status, wrong.reason) == ("failed", "`assert double(x) == 7` does not hold")
    raising = run_tests(DOUBLE, "def check(f):\n    assert f() == 1", entry_point="double")
    assert raising.status == "failed"
    assert raising.reason.startswith("`assert f() == 1` raises TypeError: double() missing")


def test_tests_can_use_modules_exceptions_and_objects_of_the_program():
    program = """
class Node:
    def __init__(self, value): self.value, self.next = value, None
def total(node):
    return node.value + (total(node.next) if node.next else 0)
def fail(): raise KeyError("k")
def count(): yield from range(3)
"""
    tests = """
import math
first = Node(math.floor(1.5))
first.next = Node(2)
assert total(first) == 3 and first.next.value == 2
assert list(count()) == [0, 1, 2]
try:
    fail()
except KeyError as error:
    assert "k" in str(error)
else:
    assert False
"""
    assert run_tests(program, tests).status == "finished"


def test_helpers_of_the_prompt_are_not_the_programs_to_define():
    program = "def poly(xs, x): return 0\ndef zero(xs): return 123"
    tests = "def check(f):\n    assert abs(poly([-2, 1], f([-2, 1]))) < 1e-4"
    given = "def poly(xs, x): return sum(c * x**i for i, c in enumerate(xs))\ndef zero(xs): pass"
    assert run_tests(program, tests, entry_point="zero").status == "finished"
    assert run_tests(program, tests, entry_point="zero", given=given).status == "failed"


def test_tests_that_cannot_judge_are_broken():
    for tests in ("assert (", "", "assert 1 + 1 == 2", "def check(f): pass"):
        assert run_tests(DOUBLE, tests, entry_point="double").status == "broken"
    assert run_tests(DOUBLE, "assert double(1) == 2", given="1 / 0").status == "broken"


def test_a_function_called_like_a_builtin_is_tested_if_it_is_named():
    program = "def sum(a, b): return a + b"
    assert run_tests(program, "assert sum(1, 2) == 3", entry_point="sum").status == "finished"
    assert run_tests(program, "assert sum(1, 2) == 3").status == "failed"


def test_a_query_reads_and_does_nothing_else():
    schema = "create table t(a, b); insert into t values (1, 'x'), (2, null);"
    outcome = run_select(schema, "select * from t order by a desc")
    assert outcome.answers[0].value == [(2, None), (1, "x")]
    for query in (
        "delete from t",
        "select 1; select 2",
        "pragma table_info(t)",
        "attach ':memory:' as other",
        "create table u(a)",
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "vacuum into '/tmp/posttrain-attack-1'",
        "",
    ):
        found = run_select(schema, query)
        assert found.status == "failed" or found.answers[0].value == [], query
    assert run_select("create tabel", "select 1").status == "broken"
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
    assert run_select(schema, endless, timeout_s=0.3).status == "timeout"


def test_threads_may_run_programs_at_once():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: value_of(DOUBLE, "double", number), range(40)))
    assert found == [2 * number for number in range(40)]


def test_a_forked_process_runs_programs_of_its_own():
    assert value_of(DOUBLE, "double", 1) == 2
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if value_of(DOUBLE, "double", 2) == 4 else 1
        finally:
            os._exit(code)
    found = [value_of(DOUBLE, "double", number) for number in range(20)]
    assert os.waitpid(child, 0)[1] == 0
    assert found == [2 * number for number in range(20)]
