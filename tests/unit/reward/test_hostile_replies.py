"""What a program writes in place of a reply is a wrong answer: no exception, no time, no memory."""

import json
import resource
import time

import pytest

from reward.boxes import values
from reward.sandbox import Call, run_calls, run_tests
from reward.verifiers.code import Case, passes_calls, passes_tests
from tests.unit.reward.hostile_replies import REFUSED, TAKEN, forger

FORGED = (
    "a range in a tuple",
    "a range in a set",
    "a complex number beyond floats",
    "colliding sets of sets",
    "nested tuples",
)


def _read(reply: str) -> object:
    """Read a reply as a parent does."""
    match values.parse(reply.encode("utf-8", "surrogatepass")):
        case {"value": value, **rest} if not rest:
            return values.decode(value, values.unknown)
        case {"raised": [str(), str()]}:
            return None
        case _:
            raise ValueError("it is no reply")


@pytest.mark.parametrize("name", REFUSED)
def test_no_text_is_read_as_more_than_it_holds(name):
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"\w"):
        _read(REFUSED[name])
    assert time.process_time() - start < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_reply_is_a_wrong_answer(name):
    program = forger(REFUSED[name], "add")
    assert passes_calls(program, "add", [Case([2, 3], 5)], timeout_s=1).score == 0.0
    assert passes_tests(program, "assert add(2, 3) == 5", timeout_s=1).score == 0.0


def test_an_exception_is_told_in_one_line_that_can_be_written():
    program = forger(TAKEN["an exception of surrogates"], "add")
    for outcome in (
        run_calls(program, [Call("add")]).answers[0].error,
        run_tests(program, "add()").reason,
    ):
        assert outcome.isprintable()
        assert outcome.encode()


def test_all_replies_of_a_program_together_have_a_budget():
    program = "def numbers(): return list(range(100_000))"
    answers = run_calls(program, [Call("numbers")] * 22, timeout_s=30).answers
    assert answers[0].value == list(range(100_000))
    assert "2,000,000 elements" in answers[-1].error


def test_what_takes_longer_than_the_box_may_is_no_longer_read():
    budget = values.Budget(clock=lambda: 11.0)
    budget.deadline_s = 10.0
    with pytest.raises(TimeoutError):
        values.loads("[1]", budget=budget)
    budget.deadline_s = 12.0
    assert values.loads("[1]", budget=budget) == [1]


def test_few_collisions_are_no_attack():
    corners = {(x, y, z) for x in (-1, -2) for y in (-1, -2) for z in (-1, -2)}
    assert len(set(map(hash, corners))) == 1
    assert values.loads(values.dumps(corners)) == corners
    multiples = {number * (2**61 - 1) for number in range(200)}
    assert values.loads(json.dumps({"set": list(multiples)})) == multiples


@pytest.mark.parametrize(
    "tests",
    [
        "assert all(map(lambda x: add(x, x) == 2 * x, [1, 2]))",
        "assert not any(map(add, [1], [2]))",
        "assert list(map(add, [1], [2])) == []",
        "assert next(map(add, [1], [2]), 3) == 3",
        "assert all(add(x, x) == 2 * x for x in [1, 2])",
        "for found in map(add, [1], [2]):\n    assert found == 3",
    ],
)
def test_the_end_of_an_iteration_does_not_end_the_tests(tests):
    program = "def add(a, b): raise StopIteration"
    outcome = run_tests(program, tests)
    assert outcome.status == "failed"
    assert "StopIteration" in outcome.reason


def test_tests_may_expect_the_end_of_an_iteration():
    program = "def first(items): return next(iter(items))"
    tests = "try:\n    first([])\nexcept StopIteration:\n    pass\nelse:\n    assert False"
    assert run_tests(program, tests).status == "finished"


def test_a_reply_names_nothing_of_the_tests():
    program = forger('{"value": {"name": "math"}}', "module")
    assert run_tests(program, "import math\nassert module().pi == math.pi").status == "died"
