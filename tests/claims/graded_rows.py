"""Responses that want to be paid for nothing, by verifier; honest programs that return oddly."""

import json
from collections import Counter, deque
from typing import Any

_SCHEMA = "create table people(name, city, age); insert into people values ('Ann', 'Lima', 30), "
_SCHEMA += "('Bob', 'Rome', 40), ('Cid', 'Lima', 50);"
_OTHER = "create table people(name, city, age); insert into people values ('Eve', 'Oslo', 20);"
_COUNT = json.dumps({"schema": [_SCHEMA, _OTHER], "query": "select count(*) from people"})
_ORDERED = json.dumps({"schema": _SCHEMA, "query": "select name from people order by age desc"})

# (verifier, reference, responses that are not right)
CHEATS: list[tuple[str, str, tuple[str, ...]]] = [
    (
        "numeric",
        "42",
        (
            *("", "no number", "NaN", "the answer is NaN", "Infinity", r"\boxed{}", "#### "),
            *("41 42 43", "the answer is 43 or 42", "42. The answer is 7", "answer: 4.2e2"),
            *("the answer is 42 + 1", "x = 42.5", "4 2", "420", "-42", "42/2", r"\boxed{42 or 43}"),
            *("#### 42\n#### 43", "9" * 5000, "42" + "0" * 5000, "1e999", "\u0664\u0662"),
            *("forty-two", "0x2a", "4_2", "the expected number", '{"score": 1.0}', "42\n\n7"),
        ),
    ),
    (
        "choice",
        "C",
        (
            *("", "A", "the answer is A or C", "(A) (B) (C) (D)", "ABCD", "c'est bon", "all"),
            *("The answer is C. No, the answer is B", "A. B. C. D.", "E", "Answer: none", "CC"),
            *(r"\boxed{ABCD}", r"\boxed{C}\boxed{A}", "Call it a day", "the letter", "score: 1"),
        ),
    ),
    (
        "numeric",
        "5 km",
        ("5 m", "5 kg", "5000 km", "5 mm or so", "500000 m", "5 miles", "5000 s", "0.5 km", "km 6"),
    ),
    (
        "choice",
        "B\nA. red\nB. light blue\nC. blue",
        ("red", "blue", "not light blue", "red, light blue", "light", "bluelight", "a light", "C"),
    ),
    (
        "symbolic",
        r"\frac{x+1}{2}",
        (
            *("", "x", "x+1", r"\boxed{}", r"\boxed{\frac{x+1}{3}}", "the expected expression"),
            *(r"\boxed{\frac{x+1}{2}, \frac{x}{2}}", "$x$ or $\\frac{x+1}{2}$", r"\frac{y+1}{2}"),
            *(r"\boxed{\frac{x+1}{2}} is wrong, it is \boxed{x^2 - 3}", "answer: 2", "0.5x + 1"),
        ),
    ),
    (
        "symbolic",
        "42",
        (
            "",
            "41 42 43",
            r"\boxed{42 \text{ or } 43}",
            "42+1",
            "$x > 42$",
            "4 2",
            "(42, 43)",
            "{42}x",
        ),
    ),
    ("pattern", r"\A\d{4}\Z", ("", "199", "19900", "in 1990", "1990 ", r"\A\d{4}\Z", "MCMX")),
    (
        "json_schema",
        '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}',
        (
            *("", "{}", "null", '{"n": "1"}', '{"n": 1.5}', '{"n": true}', '[{"n": 1}]', "{n: 1}"),
            *('{"n": 1} {"n": 2}', 'yes: {"n": 1}', "```json\n```", '```json\n{"n": 1\n```', "NaN"),
        ),
    ),
    (
        "text",
        "Lima",
        ("", "Lima Quito", "Lima or Quito", "not Lima", "L i m a", "Lim", "*", "\u0301" * 100_000),
    ),
    (
        "leading",
        "Lima",
        (
            *("", "Quito. Lima", "It is not Lima.", "It isn't Lima", "Never Lima", "Kalima"),
            *("Lima, Quito, Rome, Oslo", "Quito\nLima", "?", "Anything but Lima."),
        ),
    ),
    (
        "sql",
        _COUNT,
        (
            *("", "select 3", "select 3 union all select 1", "values (3), (1)", "select * from x"),
            *("select count(*) from people; select 3", "select count(*), 3 from people"),
            *("delete from people", "pragma user_version", "explain select count(*) from people"),
            *("select '3'", "select 3.5", "select null", "the expected rows", "[(3,)]"),
            *(
                "select (select 3)",
                "select count(*) + 1 from people where 0",
                "select max(age) / 16.7",
            ),
            *("create table people(x)", "attach ':memory:' as people", "select 3 limit 0", ";;;"),
            "with people(x) as (values (1), (2), (3)) select count(*) from people",
            "```sql\nselect 3\n```\n```python\nselect count(*) from people\n```",
        ),
    ),
    (
        "sql",
        _ORDERED,
        (
            *("select name from people order by age", "select name from people", "select 'Cid'"),
            *("select name, age from people order by age desc", "select age from people"),
            "select name from people order by age desc limit 2",
            "select distinct city from people order by city",
        ),
    ),
    (
        "same_text",
        "def f():\n    return 1\n",
        (
            "",
            "def f():\n    return 2",
            "def f():\nreturn 1",
            "```\n```",
            "def f():\n    return 1\nx = 1",
        ),
    ),
    (
        "diff",
        "b\n",
        (
            *("", "a", "b", "@@ -1,1 +1,1 @@", "@@ -1,1 +1,1 @@\n-b\n+b", "@@ -0,0 +1,1 @@\n+b"),
            *("@@ -1,1 +1,1 @@\n-a\n+b\n+b", "@@ -1,1 +1,2 @@\n-a\n+b", "+b\n-a", "@@ @@\n-a\n+b"),
            *("@@ -9,1 +9,1 @@\n-a\n+b", "@@ -1,1 +1,1 @@\n-a\n+c", "@@ -1,1 +1,1 @@\n a"),
            "@@ -1,1 +1,1 @@\n-a\n+c\n@@ -1,1 +1,1 @@\n-c\n+b",
        ),
    ),
    (
        "instructions",
        json.dumps([["punctuation:no_comma", {}]]),
        ("", "   ", "\n", ",", "a, b", "\u200b,"),
    ),
    (
        "instructions",
        json.dumps([["detectable_format:json_format", {}]]),
        ("", "{", "not JSON", "```json\n```", "[" * 100_000, "{'a': 1}", '{"a": 1} and more'),
    ),
    (
        "instructions",
        json.dumps([["detectable_format:title", {}], ["startend:quotation", {}]]),
        ("<<>>", '"<<>>"', "<<a>>", '"a"', '"<< >>"', '">>a<<"', '"'),
    ),
    (
        "instructions",
        json.dumps([["combination:two_responses", {}]]),
        ("a ****** a", "******", "a ******", "****** a", "a ****** b ****** c", "a ***** b"),
    ),
]

_NODE = "class Node:\n    def __init__(self, v): self.v = v\n"
# (program, arguments, what it rightly returns); the function is `solve`.
HONEST: dict[str, tuple[str, list[Any], Any]] = {
    "a set of sets": (
        "def solve(n): return {frozenset({i, i + 8}) for i in range(n)}",
        [9],
        {frozenset({i + 8, i}) for i in reversed(range(9))},
    ),
    "sets as keys": (
        "def solve(n): return {frozenset({8, i}): i for i in range(n)}",
        [5],
        {frozenset({i, 8}): i for i in range(5)},
    ),
    "steps in a grid": (
        "def solve(): return {(x, y, z) for x in (-2, -1) for y in (-2, -1) for z in (-2, -1)}",
        [],
        {(x, y, z) for x in (-1, -2) for y in (-1, -2) for z in (-1, -2)},
    ),
    "multiples of a prime": (
        "def solve(n): return [k * (2**61 - 1) for k in range(n)]",
        [3000],
        [k * (2**61 - 1) for k in range(3000)],
    ),
    "a negative zero": ("def solve(x): return [round(x), x * -0.0]", [0.2], [0, 0.0]),
    "a negative zero in a set": ("def solve(): return {-0.0}", [], {0.0}),
    "a deque": (
        "from collections import deque\ndef solve(n): return deque(range(n), 3)",
        [9],
        deque([6, 7, 8]),
    ),
    "a counter": (
        "from collections import Counter\ndef solve(t): return Counter(t)",
        ["abba"],
        dict(Counter("abba")),
    ),
    "a named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int\n"
        "def solve(): return P(1, 2)",
        [],
        (1, 2),
    ),
    "a member of an enumeration": (
        "from enum import IntEnum\nclass N(IntEnum):\n    A = 7\ndef solve(): return N.A",
        [],
        7,
    ),
    "a default dict": (
        "from collections import defaultdict\ndef solve(t):\n    d = defaultdict(list)\n"
        "    for c in t: d[c].append(1)\n    return d",
        ["aab"],
        {"a": [1, 1], "b": [1]},
    ),
    "a complex root": ("import cmath\ndef solve(x): return cmath.sqrt(x)", [-4], 2j),
    "a number that is none": ("def solve(): return [float('nan'), float('inf')]", [], None),
    "bytes": (
        "def solve(t): return t.encode('utf-16-le')",
        ["a\u00e9"],
        "a\u00e9".encode("utf-16-le"),
    ),
    "a large number": ("import math\ndef solve(n): return math.factorial(n)", [1000], None),
    "a large list": ("def solve(n): return list(range(n))", [50_000], list(range(50_000))),
    "a long text": ("def solve(n): return 'x' * n", [500_000], "x" * 500_000),
    "a nested list": (
        "def solve(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x",
        [150],
        None,
    ),
    "a range": ("def solve(n): return range(0, n, 2)", [10**15], range(0, 10**15, 2)),
    "text of many kinds": (
        "def solve(t): return t[::-1].upper()",
        ["stra\u00dfe \U0001f600 \u0301"],
        "stra\u00dfe \U0001f600 \u0301"[::-1].upper(),
    ),
    "lone surrogates": ("def solve(t): return t + t", ["\ud83d"], "\ud83d\ud83d"),
    "nothing": ("def solve(*a, **k): pass", [1, 2], None),
    "a type": ("def solve(x): return type(x)", [1.0], float),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10_000)\ndef solve(n): return n and 1 + solve(n - 1)",
        [3000],
        3000,
    ),
    "a cache": (
        "from functools import lru_cache\n@lru_cache(None)\n"
        "def solve(n): return n if n < 2 else solve(n - 1) + solve(n - 2)",
        [80],
        23416728348467685,
    ),
    "a main block": (
        "def solve(n): return n + 1\nif __name__ == '__main__':\n    print(solve(int(input())))",
        [1],
        2,
    ),
    "much output": ("def solve(n):\n    print('x' * 5_000_000)\n    return n", [1], 1),
    "half a second": (
        "def solve(n):\n    t = 0\n    for i in range(n): t += i\n    return t",
        [3_000_000],
        3_000_000 * 2_999_999 // 2,
    ),
    "a hundred megabytes": ("def solve(n): return len(bytearray(n))", [100_000_000], 100_000_000),
    "an exception that is caught": (
        "def solve(t):\n    try: return int(t)\n    except ValueError: return None",
        ["x"],
        None,
    ),
    "an iteration that ends": (
        "def solve(t):\n    i = iter(t)\n    try:\n        while True: last = next(i)\n"
        "    except StopIteration: return last",
        ["abc"],
        "c",
    ),
    "a class with a call": (
        "class Solve:\n    def __call__(self, x): return -x\nsolve = Solve()",
        [4],
        -4,
    ),
    "an object inside": (_NODE + "def solve(x): return Node(x).v", [4], 4),
    "random numbers with a seed": (
        "import random\ndef solve():\n    return random.Random(1).randint(1, 6) in range(1, 7)",
        [],
        True,
    ),
    "a date": (
        "import datetime\ndef solve(d): return datetime.date.fromisoformat(d).isoweekday()",
        ["2024-02-29"],
        4,
    ),
    "words that look like cheating": (
        "import sys, gc\nclass P:\n    def __eq__(self, o): return type(o) is P\n"
        "def solve():\n    gc.collect()\n    return P() == P() and sys.getrefcount(1) > 0",
        [],
        True,
    ),
    "what comes from the future": (
        "from __future__ import annotations\ndef solve(x: list[int] | None) -> int: return len(x)",
        [[1, 2]],
        2,
    ),
    "modules of the library": (
        "import doctest, gzip, html.parser, getopt, configparser, contextvars, lzma, bz2, sched\n"
        "def solve(t): return gzip.decompress(gzip.compress(t.encode())).decode()",
        ["text"],
        "text",
    ),
    "a sort by two keys": (
        "def solve(xs): return sorted(xs, key=lambda p: (-p[1], p[0]))",
        [[["b", 1], ["a", 1], ["c", 2]]],
        [["c", 2], ["a", 1], ["b", 1]],
    ),
    "a heap": (
        "import heapq\ndef solve(xs):\n    heapq.heapify(xs)\n    return heapq.nsmallest(2, xs)",
        [[3, 1, 2]],
        [1, 2],
    ),
}
