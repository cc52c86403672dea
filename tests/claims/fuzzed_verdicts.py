"""G10e: responses, references, patterns and schemas, drawn, and judged by verifiers of answers.

A verdict is 0, 1 or None, whatever is drawn: nothing raises, and nothing takes longer than the
limits on it.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from reward.verifiers.choice import choice
from reward.verifiers.json_schema import json_schema
from reward.verifiers.numeric import numeric
from reward.verifiers.pattern import pattern
from reward.verifiers.symbolic import symbolic
from tests.claims.claim import Case, Claim
from tests.claims.fuzzing import Reader, fuzzing_cases, mutate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from reward.verdict import Verdict

_CPU_S = 0.5
# A process that is late is ended after three times its time and two seconds, and started anew.
_CLOCK_S = 60.0
_VERIFIERS: dict[str, Callable[[str, str], Verdict]] = {
    "numeric": numeric,
    "choice": choice,
    "symbolic": partial(symbolic, cpu_s=_CPU_S),
    "pattern": partial(pattern, cpu_s=_CPU_S),
    "json_schema": partial(json_schema, cpu_s=_CPU_S),
}
_REFERENCES: dict[str, tuple[str, ...]] = {
    "numeric": ("42", "1/2", "5 km", "25%", "-3e5", "1,000", "2 1/2", "1/0", "9" * 500),
    "choice": ("B", "BC", "A\nA. red\nB. light blue", "C\nA. 1\nB. 2\nC. 3"),
    "symbolic": (
        *(r"\frac{1}{2}", "x^2+1", r"\{1,2\}", "(1,2)", r"\sqrt{3}", "x=3", "42", "28%"),
        *(r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\text{Evelyn}", "1<x<2", r"\infty", "$"),
    ),
    "pattern": (r"\d+", "(a+)+b", "(?i)lima", r"\A.*\Z", "(?:a|b)*c", "[^x]{3,9}", r"(.)\1", "("),
    "json_schema": (
        *('{"type": "object", "required": ["a"]}', "true", "3", '{"pattern": "(a+)+b"}'),
        *('{"$ref": "#"}', '{"items": {"multipleOf": 0.01}, "uniqueItems": true}', "{"),
    ),
}
_RESPONSES = (
    *("The answer is 42.", r"It is \boxed{\frac{1}{2}}.", "#### 1,000", "x^2 + 1", "(1, 2)", "(B)"),
    *("It takes 5000 m, or 25%", r"$3 \times 10^{5}$", "light blue", r"\text{not red}", "2 1/2"),
    *(
        json.dumps({"a": [1, 2.5, None, "x"], "b": {}}),
        '```json\n{"a": 1}\n```',
        "aaaaaaaaaaaaaaaaaaa",
    ),
    *(
        "",
        "\x00",
        "9**9**9",
        r"\boxed{",
        r"\sum_{n=1}^{99} n",
        r"\int_0^1 x dx",
        "[" * 3000,
        "1e400",
    ),
)
_TOKENS = tuple(
    token.encode()
    for token in (
        *(
            "\\boxed{",
            "\\frac{",
            "\\sqrt",
            "{",
            "}",
            "$",
            "^",
            "_",
            "**",
            "9" * 600,
            "e9",
            "%",
            "/0",
        ),
        *(
            "(" * 300,
            "[",
            "]",
            '{"a":',
            "NaN",
            "true",
            "+",
            "*",
            "?",
            "{1,9999}",
            "(?",
            "\\d",
            "|",
            ".*",
        ),
        *("answer is ", "#### ", " km", "\u0301", "\U0001f600"),
        *(
            "\\n",
            "```json\\n",
            "A. ",
            ",000",
            "\u2212",
            "!" * 9,
            "\\left(",
            "\\begin{pmatrix}",
            "&",
        ),
    )
)


def draw(random: Random) -> tuple[str, str, str]:
    """Return a verifier, a response and a reference, perhaps changed, or of another verifier."""
    name = random.choice(tuple(_VERIFIERS))
    kind = name if random.random() < 0.9 else random.choice(tuple(_VERIFIERS))
    reference, response = random.choice(_REFERENCES[kind]), random.choice(_RESPONSES)
    if random.random() < 0.2:
        response = reference
    if random.random() < 0.3:
        reference = _changed(random, reference)
    return name, _changed(random, response) if random.random() < 0.7 else response, reference


def read(given: tuple[str, str, str], _: Path) -> str:
    """Judge a response within the limits."""
    name, response, reference = given
    start_s = time.monotonic()
    verdict: Any = _VERIFIERS[name](response, reference)
    assert verdict.score in (0.0, 1.0, None), verdict
    assert len(verdict.reason) < 1000
    assert time.monotonic() - start_s < _CLOCK_S
    return "not graded" if verdict.score is None else f"{verdict.score:.0f}"


def _changed(random: Random, text: str) -> str:
    return mutate(random, text.encode(), _TOKENS).decode(errors="replace")


def _cases(random: Random, times: int) -> list[Case]:
    # The process that grades takes nearly all of the time, which is not counted here.
    reader = Reader(draw, read, (), input_s=3.0)
    return fuzzing_cases(reader, random, times, processor_s=0.4, parts=8)


CLAIM = Claim(
    "G10e",
    "no answer, reference, pattern or schema, drawn, makes a verifier raise or hang",
    _cases,
    least=400,
    shares={"0": 0.2, "1": 0.02, "not graded": 0.05},
)
