"""Right programs are paid, wrong ones and every known way around the tests are not."""

from collections import deque

import pytest

from reward.verifiers.code import Case, passes_calls, passes_tests, program_of, same

CASES = [Case([2, 3], 5), Case([-1, 1], 0), Case([10**20, 1], 10**20 + 1)]
ASSERTIONS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0\nassert add(10**20, 1) == 10**20 + 1"
CHECK = """
METADATA = {}
def check(candidate):
    for a in range(20):
        assert candidate(a, 3 * a) == 4 * a
    assert abs(candidate(0.5, 0.25) - 0.75) < 1e-6
    assert candidate(2, 3) == 5, "the sum"
"""
WRONG = "def add(a, b): return a - b\n"
CHEATS = {
    "nothing": "",
    "no_body": "def add(a, b): pass",
    "wrong": WRONG,
    "exit": f"import sys\n{WRONG}sys.exit(0)",
    "exit_in_call": "import sys\ndef add(a, b): sys.exit(0)",
    "hard_exit": f"import os\n{WRONG}os._exit(0)",
    "hard_exit_in_call": "import os\ndef add(a, b): os._exit(0)",
    "system_exit": "def add(a, b): raise SystemExit(0)",
    "execv": "import os\ndef add(a, b): os.execv('/bin/true', ['true'])",
    "kill_itself": "import os\ndef add(a, b): os.kill(os.getpid(), 9)",
    "quit_at_exit": f"import atexit, os\n{WRONG}atexit.register(os._exit, 0)",
    "excepthook": f"import sys, os\n{WRONG}sys.excepthook = lambda *_: os._exit(0)\n1/0",
    "equal_to_all": """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return self
    def __abs__(self): return 0
    def __bool__(self): return True
    __hash__ = None
def add(a, b): return Yes()
""",
    "int_equal_to_all": """
class Yes(int):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __int__(self): return 5
    def __index__(self): return 5
    __hash__ = int.__hash__
def add(a, b): return Yes(1)
""",
    "float_equal_to_all": """
class Yes(float):
    def __eq__(self, other): return True
    def __float__(self): return 0.75
def add(a, b): return Yes(1)
""",
    "claims_another_class": """
class Liar:
    __class__ = int
    def __eq__(self, other): return True
    def __index__(self): return 5
def add(a, b): return Liar()
""",
    "metaclass": """
class Meta(type):
    def __eq__(self, other): return True
    def __instancecheck__(self, other): return True
class Yes(metaclass=Meta): pass
def add(a, b): return Yes
""",
    "reads_command_line": """
def add(a, b):
    text = open('/proc/self/cmdline').read() + open('/proc/self/environ').read()
    return eval(text)
""",
    "reads_frames": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for name, value in frame.f_locals.items():
            if name in ("tests", "expected", "cases"): return value
            if name == "result": value.append("passed")
            if name == "status": frame.f_locals["status"] = "finished"
        frame = frame.f_back
    return None
""",
    "searches_objects": """
import gc
def add(a, b):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "tests" in thing: return thing["tests"]
        if isinstance(thing, list): thing.append("passed")
    return None
""",
    "prints_a_result": f'{WRONG}print(\'{{"value": 5}}\', flush=True)\nprint(\'["finished", ""]\')',
    "writes_replies": """
import os, struct
for reply in (b'{"value": 5}', b'["finished", ""]', b'0' * 16 + b'{"value": 5}'):
    for descriptor in (1, 2, 3, 4):
        try: os.write(descriptor, struct.pack("!I", len(reply)) + reply)
        except OSError: pass
def add(a, b): return None
""",
    "writes_verdict_instead_of_a_reply": """
import os, struct
def add(a, b):
    for frame in [0, 0, 0]:
        reply = b'["finished", ""]'
        os.write(3, struct.pack("!I", len(reply)) + reply)
    os._exit(0)
""",
    "patches_the_harness": """
import sys, json
for name, module in list(sys.modules.items()):
    if name.startswith("reward"):
        for key, value in list(vars(module).items()):
            if callable(value) and not key.startswith("__"):
                setattr(module, key, lambda *a, **k: ("finished", ""))
json.dumps = lambda *a, **k: '["finished", ""]'
def add(a, b): return None
""",
    "patches_builtins": """
import builtins
builtins.AssertionError = type("E", (Exception,), {})
builtins.abs = lambda x: 0
builtins.range = lambda *a: []
builtins.isinstance = lambda *a: True
builtins.type = lambda *a: int
def abs(x): return 0
def range(*a): return []
def add(a, b): return None
""",
    "redefines_check": """
def check(candidate): return None
def add(a, b): return None
class METADATA: pass
""",
    "traces": """
import sys
def trace(frame, event, argument):
    frame.f_locals["status"] = "finished"
    return trace
sys.settrace(trace)
def add(a, b): return None
""",
    "swallows_exceptions": """
import sys, threading
sys.unraisablehook = threading.excepthook = lambda *_: None
def add(a, b):
    try: return 1 / 0
    except BaseException: return ...
""",
    "nan": "def add(a, b): return float('nan')",
    "generator": "def add(a, b): yield 5",
    "callable_result": "def add(a, b): return add",
    "deep_result": "x = []\nfor _ in range(10**5): x = [x]\ndef add(a, b): return x",
    "collisions": "def add(a, b): return {k * (2**61 - 1) for k in range(1, 30_000)}",
    "forged_collisions": """
import json, os, struct
def add(a, b):
    reply = json.dumps({"value": {"set": [k * (2**61 - 1) for k in range(1, 40_000)]}}).encode()
    json.dumps = lambda *a, **k: reply.decode()
    return None
""",
    "reads_ahead": """
import os
seen = os.read(3, 1 << 16)
def add(a, b): return 5
""",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_paid_and_is_no_failure_of_the_machine(name):
    assert passes_calls(CHEATS[name], "add", CASES, timeout_s=0.4).score == 0.0
    assert passes_tests(CHEATS[name], ASSERTIONS, timeout_s=0.4).score == 0.0
    assert passes_tests(CHEATS[name], CHECK, entry_point="add", timeout_s=0.4).score == 0.0


@pytest.mark.parametrize(
    "program",
    [
        "def add(a, b): return a + b",
        "add = lambda a, b: a + b",
        "import operator\nadd = operator.add",
        "class Adder:\n    def __call__(self, a, b): return b + a\nadd = Adder()",
        "import enum\nclass N(enum.IntEnum):\n    FIVE = 5\n"
        "def add(a, b): return N.FIVE if (a, b) == (2, 3) else a + b",
        "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nThat adds.",
    ],
)
def test_an_honest_program_is_paid(program):
    assert passes_calls(program, "add", CASES).score == 1.0
    assert passes_tests(program, ASSERTIONS).score == 1.0
    assert passes_tests(program, CHECK, entry_point="add").score == 1.0


def test_the_reason_names_the_case_and_is_short():
    verdict = passes_calls(WRONG, "add", CASES)
    assert verdict.reason == "add(2, 3): expected 5, found -1"
    assert verdict.answer == WRONG
    long = passes_calls("def add(a, b): raise ValueError('x' * 10_000)", "add", CASES)
    assert len(long.reason) <= 200
    assert "ValueError" in long.reason
    assert passes_tests(WRONG, ASSERTIONS).reason == "`assert add(2, 3) == 5` does not hold"
    assert "SyntaxError" in passes_calls("def add(", "add", CASES).reason


def test_what_cannot_be_judged_is_not_wrong():
    assert passes_calls(WRONG, "add", []).score is None
    assert passes_tests(WRONG, "assert (").score is None
    assert passes_tests(WRONG, "").score is None


def test_values_are_the_same_only_with_the_same_types():
    assert same([1, (2.0, {"a": {3}})], [1, (2.0, {"a": {3}})])
    for found, expected in (
        (True, 1),
        (1.0, 1),
        ((1, 2), [1, 2]),
        ([True], [1]),
        ({1: "a"}, {True: "a"}),
        ({1.0}, {1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        (0.1 + 0.2, 0.3),
        (None, float("nan")),
        (deque([True]), deque([1])),
        ({frozenset({1})}, {frozenset({True})}),
        ({(1, "a,b")}, {(1, "a", "b")}),
    ):
        assert not same(found, expected)
        assert not same(expected, found)
    assert same(0.1 + 0.2, 0.3, tolerance=1e-9)
    assert same([1000.0], [1001.0], tolerance=1e-3)
    assert same(float("nan"), float("nan"))
    assert same({float("nan"): 1}, {float("nan"): 1})
    assert same({-0.0}, {0.0})
    assert same(complex(0.1 + 0.2, float("nan")), complex(0.3, float("nan")), tolerance=1e-9)
    assert not same(1 + 2j, 1 + 2.1j)
    # The order of a set's elements is that in which they came, where they share a place in it.
    assert same({frozenset({0, 8})}, {frozenset({8, 0})})
    assert same({(1, frozenset({0, 8})): 2}, {(1, frozenset({8, 0})): 2})


def test_a_case_may_allow_a_tolerance():
    program = "def third(): return 0.3333"
    assert passes_calls(program, "third", [Case([], 1 / 3)]).score == 0.0
    assert passes_calls(program, "third", [Case([], 1 / 3, tolerance=1e-3)]).score == 1.0


def test_the_program_is_the_last_python_block():
    assert program_of("```python\na = 1\n```\n```python\na = 2\n```\n```bash\nls\n```") == "a = 2\n"
    assert program_of("a = 3") == "a = 3"
