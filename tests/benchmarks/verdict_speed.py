"""How long 1,000 verdicts take: plain numbers here, algebra, patterns and schemas in their process.

The ratio is the time allowed over the time taken. Numbers are what PPO and GRPO ask for most, and
are timed by the processor: 1,000 verdicts took 0.025 s before units, percents and powers of ten
were read.
"""

import time
from collections.abc import Callable, Sequence

from reward.verdict import Verdict
from reward.verifiers.json_schema import json_schema
from reward.verifiers.numeric import numeric
from reward.verifiers.pattern import pattern
from reward.verifiers.symbolic import symbolic
from tests.benchmarks.result import Result

_NUMBERS = (
    *("47 + 35 = 82", "The answer is 82. I used 2 steps.", "It took 3 steps.\n#### 82", "83"),
    *(r"\boxed{82} after 3 steps", "He has 40 apples, and 42, and 1/2 of all: 82. " * 3),
    *("So 25 \\times 3 = 75, and 75 + 7 = 82.", "\\frac{164}{2}"),
)
_SCHEMA = '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}'


def number_verdicts() -> Result:
    """Time plain numbers: twice what they took before is too much."""
    asked = [(each, "82") for each in _NUMBERS]
    return _timed("number_verdicts", numeric, asked, 0.05, clock=time.process_time)


def math_verdicts() -> Result:
    """Time expressions that all differ, so that no verdict is remembered."""
    asked = [
        (shape.format(n), f"{n}/3")
        for n in range(4, 34)
        for shape in (
            r"It is $\frac{{{}}}{{3}}$.",
            r"\boxed{{\sqrt{{{}}}+1}}",
            "{}x+3",
            "#### {}/3",
        )
    ]
    return _timed("math_verdicts", symbolic, asked, 60.0, repeats=1)


def pattern_verdicts() -> Result:
    """Time a pattern on short responses."""
    return _timed("pattern_verdicts", pattern, [(each, r"\b\d\d\b") for each in _NUMBERS], 1.0)


def schema_verdicts() -> Result:
    """Time a schema on objects of which half follow it."""
    asked = [(f'{{"n": {n}}}', _SCHEMA) for n in (1, 2, 3, '"4"', 1.5, "null")]
    return _timed("schema_verdicts", json_schema, asked, 1.0)


def _timed(
    name: str,
    verify: Callable[[str, str], Verdict],
    asked: Sequence[tuple[str, str]],
    goal_s: float,
    *,
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """goal_s: for 1,000 verdicts, the fastest of the repeats counting."""
    start = time.perf_counter()
    first = verify(*asked[0])  # starts the process that some verifiers ask
    start_s = time.perf_counter() - start
    passes = max(1, 1000 // len(asked)) if repeats > 1 else 1
    taken: list[float] = []
    scores: list[float | None] = [first.score]
    for _ in range(repeats):
        start = clock()
        for _ in range(passes):
            scores += [verify(*each).score for each in asked]
        taken.append((clock() - start) / (passes * len(asked)))
    thousand_s = 1000 * min(taken)
    details = {
        "seconds_per_thousand": round(thousand_s, 4),
        "first_seconds": round(start_s, 3),
        "right": sum(score == 1.0 for score in scores),
        "ungraded": sum(score is None for score in scores),
        "verdicts": len(scores),
    }
    return Result(name, goal_s / thousand_s, 1.0, details, is_valid=not details["ungraded"])
