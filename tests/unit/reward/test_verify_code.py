"""Right programs are paid, wrong ones and every known way around the tests are not."""

from collections import deque

import pytest

from reward.verifiers.code import Case, passes_calls, passes_tests, program_of, same
from tests.unit.reward.cheating_programs import ASSERTIONS, CASES, CHEATS, CHECK, MAPPED, WRONG


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_paid_and_is_no_failure_of_the_machine(name):
    assert passes_calls(CHEATS[name], "add", CASES, timeout_s=0.4).score == 0.0
    assert passes_tests(CHEATS[name], ASSERTIONS, timeout_s=0.4).score == 0.0
    assert passes_tests(CHEATS[name], MAPPED, timeout_s=0.4).score == 0.0
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
