"""How long judging a trivial program takes in the sandbox, by calls and by test code.

The ratio is the time allowed over the median time taken; test code takes two boxes, and twice.
"""

import statistics
import time
from collections.abc import Callable

from reward.sandbox import Call, require_sandbox, run_calls, run_tests
from tests.benchmarks.result import Result

_PROGRAM = "def double(x): return 2 * x"
_GOAL_S = 0.005


def sandbox_calls_seconds() -> Result:
    """Time a program with three calls."""
    calls = [Call("double", [number]) for number in range(3)]
    return _timed("sandbox_calls_seconds", lambda: run_calls(_PROGRAM, calls), _GOAL_S)


def sandbox_tests_seconds() -> Result:
    """Time a program with three assertions."""
    tests = "\n".join(f"assert double({number}) == {2 * number}" for number in range(3))
    return _timed("sandbox_tests_seconds", lambda: run_tests(_PROGRAM, tests), 2 * _GOAL_S)


def _timed(name: str, run: Callable[[], object], goal_s: float, repeats: int = 300) -> Result:
    require_sandbox()  # the first program starts the process that the others are forked from
    taken: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    median_s = statistics.median(taken)
    details = {
        "milliseconds": round(1000 * median_s, 2),
        "best_milliseconds": round(1000 * min(taken), 2),
        "goal_milliseconds": 1000 * goal_s,
        "median_of": repeats,
    }
    return Result(name, goal_s / median_s, 1.0, details)
