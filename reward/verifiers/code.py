"""Does a program do what hidden cases or tests expect? It runs confined: see reward/sandbox.py.

The program is the last Python code block of a response that defines what is asked for, or the last
of all, or all of a response without one. Where
programs cannot be confined the verifiers raise SandboxUnavailable; where the machine fails, or the
tests themselves do, the score is None.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from reward import extract
from reward.boxes.values import dumps
from reward.sandbox import MIB, Call, Outcome, run_calls, run_tests
from reward.verdict import Verdict

_MAX_SHOWN = 60
_MAX_REASON = 200


@dataclass(frozen=True)
class Case:
    """A call and what it must return: plain values, of exactly these types (True is not 1).

    tolerance: how far a float may be from the expected one, absolutely or as a part of it.
    """

    arguments: Sequence[Any]
    expected: Any
    keywords: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tolerance: float = 0.0


def passes_calls(
    response: str,
    function: str,
    cases: Sequence[Case],
    *,
    timeout_s: float = 3.0,
    memory_bytes: int = 512 * MIB,
) -> Verdict:
    """Call the program's function for each case: 1.0 if all values are the expected ones, else 0.0.

    The expected values never come near the program. Limits as in `reward.sandbox.run_calls`.
    """
    if not cases:
        return Verdict(None, None, "there are no cases")
    program = program_of(response, function)
    calls = [Call(function, case.arguments, case.keywords) for case in cases]
    outcome = run_calls(program, calls, timeout_s=timeout_s, memory_bytes=memory_bytes)
    for case, answer in zip(cases, outcome.answers, strict=False):
        found = answer.error or _shown(answer.value)
        if answer.error or not same(answer.value, case.expected, tolerance=case.tolerance):
            asked = ", ".join(map(_shown, case.arguments))
            reason = f"{function}({asked}): expected {_shown(case.expected)}, found {found}"
            return Verdict(0.0, program, reason[:_MAX_REASON])
    return _verdict(program, outcome, "all cases give the expected values")


def passes_tests(
    response: str,
    tests: str,
    *,
    entry_point: str = "",
    given: str = "",
    timeout_s: float = 3.0,
    memory_bytes: int = 512 * MIB,
) -> Verdict:
    """Run test code on the program: 1.0 if every assertion holds, else 0.0.

    tests, entry_point, given, limits: as in `reward.sandbox.run_tests`, which see for what test
    code cannot find out. MBPP: `tests` is the setup code and the assertions, one a line. HumanEval:
    `tests` is `test`, `given` is `prompt`, and the program is the prompt with its completion.
    """
    program = program_of(response, entry_point)
    outcome = run_tests(
        program,
        tests,
        entry_point=entry_point,
        given=given,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
    )
    return _verdict(program, outcome, "all tests hold")


def program_of(response: str, function: str = "") -> str:
    """Return the program in a response, if it can be, one that defines the function."""
    block = extract.code_block(response, "python", defining=function)
    return response if block is None else block


def same(found: Any, expected: Any, *, tolerance: float = 0.0) -> bool:
    """Whether two plain values are equal and of the same types all the way down.

    Floats may differ by the tolerance, absolutely or relatively, except in sets and as keys; NaN is
    the same as NaN.
    """
    if type(found) is not type(expected):
        return False
    if isinstance(expected, float):
        return (
            found == expected
            or (math.isnan(found) and math.isnan(expected))
            or math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
        )
    if isinstance(expected, complex):
        return same(found.real, expected.real, tolerance=tolerance) and same(
            found.imag, expected.imag, tolerance=tolerance
        )
    if isinstance(expected, list | tuple | deque):
        items = cast("Sequence[Any]", expected)
        return len(found) == len(items) and all(
            same(one, other, tolerance=tolerance) for one, other in zip(found, items, strict=True)
        )
    if isinstance(expected, dict):
        found_by_key = {_written(key): held for key, held in found.items()}
        expected_by_key = {
            _written(key): held for key, held in cast("dict[Any, Any]", expected).items()
        }
        return found_by_key.keys() == expected_by_key.keys() and all(
            same(found_by_key[key], held, tolerance=tolerance)
            for key, held in expected_by_key.items()
        )
    if isinstance(expected, set | frozenset):
        return _written(found) == _written(expected)
    return found == expected


def _written(value: Any) -> str:
    """Return a text that only the same values share: in a set, 1 and True are one."""
    if isinstance(value, set | frozenset):
        return f"<{','.join(sorted(map(_written, cast('frozenset[Any]', value))))}>"
    if isinstance(value, tuple):
        return f"({','.join(map(_written, cast('tuple[Any, ...]', value)))})"
    return dumps(0.0 if value == 0 and isinstance(value, float) else value)  # -0.0 is 0.0


def _verdict(program: str, outcome: Outcome, praise: str) -> Verdict:
    if outcome.status == "finished":
        return Verdict(1.0, program, praise)
    if outcome.status in ("broken", "infrastructure"):
        return Verdict(None, program, outcome.reason[:_MAX_REASON])
    return Verdict(0.0, program, outcome.reason[:_MAX_REASON])


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
