"""G7: responses that cheat are not paid, honest ones are, by every verifier.

Honest are the answers that the built-in tasks give themselves, written in the ways in which models
write, and, where POSTTRAIN_REAL_DATA names them, the solutions of HumanEval and MBPP.
"""

from __future__ import annotations

import gzip
import json
import os
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import tasks
from reward.verifiers.choice import choice
from reward.verifiers.code import Case as Asked
from reward.verifiers.code import passes_calls, passes_tests
from reward.verifiers.diff import produces, same_text
from reward.verifiers.instructions import instructions
from reward.verifiers.json_schema import json_schema
from reward.verifiers.numeric import numeric
from reward.verifiers.pattern import pattern
from reward.verifiers.sql import sql
from reward.verifiers.symbolic import symbolic
from reward.verifiers.text import text
from tests.claims.claim import Case, Claim, Outcome
from tests.claims.graded_rows import CHEATS, HONEST
from tests.unit.reward import cheating_programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from eval.task import Task
    from reward.verdict import Verdict

_CODE_TASKS = ("code", "sql")
_OTHER_TASKS = (
    *("arithmetic", "diff", "facts", "logic", "physics", "recall", "space", "stories"),
    "translation",
)
_OF_CODE, _OF_OTHERS = 80, 12
_VERIFIERS: dict[str, Callable[[str, str], Verdict]] = {
    "numeric": numeric,
    "choice": choice,
    "text": text,
    "leading": partial(text, within="leading_sentence"),
    "sql": partial(sql, timeout_s=0.5),
    "same_text": same_text,
    "diff": lambda response, expected: produces(response, "a\n", expected),
    "instructions": instructions,
    "symbolic": symbolic,
    "pattern": pattern,
    "json_schema": json_schema,
}
# How models write a program or a query around the answer.
_WAYS: dict[str, Callable[[str, str], str]] = {
    "bare": lambda code, _: code,
    "in a block": lambda code, label: f"```{label}\n{code}\n```",
    "in a block without a label": lambda code, _: f"Sure!\n\n```\n{code}\n```\nThis works.",
    "in a block that is cut off": lambda code, label: f"Here it is:\n```{label}\n{code}",
    "with line ends of another system": lambda code, label: (
        f"```{label}\r\n" + code.replace("\n", "\r\n") + "\r\n```\r\n"
    ),
    "after a draft": lambda code, label: (
        f"```{label}\nselect def 1\n```\nNo, better:\n```{label}\n{code}\n```"
    ),
    "with a short label": lambda code, label: (
        f"```{ {'python': 'py', 'sql': 'sqlite'}[label] }\n{code}\n```"
    ),
    "with a label in brackets": lambda code, label: f"```{{.{label} .numbers}}\n{code}\n```",
    "before a command": lambda code, label: f"```{label}\n{code}\n```\n```bash\nls -l\n```",
}
_WAYS_OF_PROGRAMS: dict[str, Callable[[str, str], str]] = {
    "before its use": lambda code, _: (
        f"```python\n{code}\n```\nFor example:\n```python\nprint(f(1))\n```"
    ),
    "with imports": lambda code, _: f"```python\nimport math, re\n\n\n{code}\n```",
}
_WAYS_OF_QUERIES: dict[str, Callable[[str, str], str]] = {
    "with two semicolons": lambda code, _: f"{code};;",
    "with a comment at its end": lambda code, _: f"```sql\n{code}; -- that is all;\n```",
    "with semicolons and comments": lambda code, _: f"-- ; first\n{code} ; /* ; */ ;\n;",
    "in brackets": lambda code, _: f"select * from ({code.rstrip().rstrip(';')})",
}


def _cheat_by_program(name: str, _: Path) -> Outcome:
    program = cheating_programs.CHEATS[name]
    asks = cheating_programs
    verdicts = {
        "calls": passes_calls(program, "add", asks.CASES, timeout_s=0.4),
        "assertions": passes_tests(program, asks.ASSERTIONS, timeout_s=0.4),
        "mapped assertions": passes_tests(program, asks.MAPPED, timeout_s=0.4),
        "a check": passes_tests(program, asks.CHECK, entry_point="add", timeout_s=0.4),
    }
    return _not_paid(verdicts)


def _cheat_by_response(verifier: str, reference: str, response: str, _: Path) -> Outcome:
    return _not_paid({verifier: _VERIFIERS[verifier](response, reference)})


def _not_paid(verdicts: dict[str, Verdict]) -> Outcome:
    failures = tuple(
        f"{verifier}: scored {verdict.score}: {verdict.reason}"
        for verifier, verdict in verdicts.items()
        if verdict.score != 0.0
    )
    return Outcome(len(verdicts), failures, {"cheats": len(verdicts)})


def _honest_program(name: str, _: Path) -> Outcome:
    program, arguments, expected = HONEST[name]
    if expected is None:
        expected = _returned(program, arguments)
    asked = [Asked(arguments, expected, tolerance=1e-9)]
    verdict = passes_calls(program, "solve", asked)
    if name == "lone surrogates":  # which the source of a test, unlike a reply, cannot hold
        return _paid([verdict])
    tests = f"found = solve(*{arguments!r})\nassert found is not NotImplemented"
    return _paid([verdict, passes_tests(program, tests, entry_point="solve")])


def _returned(program: str, arguments: list[Any]) -> Any:
    names: dict[str, Any] = {"__name__": "program"}
    exec(program, names)  # noqa: S102  a row of ours
    return names["solve"](*arguments)


def _honest_task(task: Task, example: Any, way: str, label: str, _: Path) -> Outcome:
    ways = _WAYS | _WAYS_OF_PROGRAMS | _WAYS_OF_QUERIES
    response = ways[way](example.response, label) if way else example.response
    return _paid([task.verify(response, example.reference)])


def _paid(verdicts: list[Verdict]) -> Outcome:
    failures = tuple(
        f"scored {verdict.score}: {verdict.reason}" for verdict in verdicts if verdict.score != 1.0
    )
    return Outcome(len(verdicts), failures, {"honest": len(verdicts)})


def _solution(problem: dict[str, Any], _: Path) -> Outcome:
    return _paid(
        [
            passes_tests(
                problem["prompt"] + problem["canonical_solution"],
                problem["test"],
                entry_point=problem["entry_point"],
                given=problem["prompt"],
            )
        ]
    )


def _cheats() -> list[Case]:
    by_program = [
        Case(f"cheat, {name}", partial(_cheat_by_program, name))
        for name in cheating_programs.CHEATS
    ]
    return by_program + [
        Case(
            f"cheat, {verifier} {part}.{number}",
            partial(_cheat_by_response, verifier, reference, response),
        )
        for part, (verifier, reference, responses) in enumerate(CHEATS)
        for number, response in enumerate(responses)
    ]


def _honest(random: Random, times: int) -> list[Case]:
    cases = [Case(f"honest, {name}", partial(_honest_program, name)) for name in HONEST]
    for name in (*_CODE_TASKS, *_OTHER_TASKS):
        task = tasks.load(name)
        number = (_OF_CODE if name in _CODE_TASKS else _OF_OTHERS) * times
        examples = list(islice(task.examples("validation"), number))
        examples += list(islice(task.examples("train"), number - len(examples)))
        label = "python" if name == "code" else "sql"
        own = _WAYS_OF_PROGRAMS if name == "code" else _WAYS_OF_QUERIES
        ways = [*_WAYS, *own] if name in _CODE_TASKS else [""]
        random.shuffle(ways)
        for place, example in enumerate(examples):
            way = ways[place % len(ways)]
            attempt = partial(_honest_task, task, example, way, label)
            cases.append(Case(f"honest, {name} {place} {way}".rstrip(), attempt))
    return cases + _solutions()


def _solutions() -> list[Case]:
    """Return every fourth problem of HumanEval, where it lies."""
    path = Path(os.environ.get("POSTTRAIN_REAL_DATA") or "/nonexistent")
    path = path / "humaneval" / "HumanEval.jsonl.gz"
    if not path.is_file():
        return []
    with gzip.open(path, "rt") as lines:
        problems = [json.loads(line) for line in lines][::4]
    return [Case(f"honest, {each['task_id']}", partial(_solution, each)) for each in problems]


def _cases(random: Random, times: int) -> list[Case]:
    return _cheats() + _honest(random, times)


CLAIM = Claim(
    "G7",
    "a response that cheats is not paid, an honest one is",
    _cases,
    least=600,
    shares={"cheats": 0.4, "honest": 0.4},
)
