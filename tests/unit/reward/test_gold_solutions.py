"""The reference solutions of HumanEval and MBPP pass their own tests in the sandbox; nothing else.

HumanEval (Chen et al. 2021): all 164. MBPP (Austin et al. 2021): all 974, challenge tests included.
"""

import ast
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reward.verdict import Verdict
from reward.verifiers.code import passes_tests

# Problem 123 sums the divisors of every number up to 9999, by trial: seconds.
LONG_S = 30.0


@pytest.fixture
def humaneval(real_data: Path) -> list[dict[str, Any]]:
    with gzip.open(real_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def mbpp(real_data: Path) -> list[dict[str, Any]]:
    lines = (real_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def judged_humaneval(problem: dict[str, Any], completion: str) -> Verdict:
    return passes_tests(
        problem["prompt"] + completion,
        problem["test"],
        entry_point=problem["entry_point"],
        given=problem["prompt"],
    )


def judged_mbpp(problem: dict[str, Any], program: str) -> Verdict:
    assertions = "\n".join(problem["test_list"] + problem["challenge_test_list"])
    tested = {node.id for node in ast.walk(ast.parse(assertions)) if isinstance(node, ast.Name)}
    defined = [
        node.name
        for node in ast.parse(problem["code"]).body
        if isinstance(node, ast.FunctionDef) and node.name in tested
    ]
    return passes_tests(
        program,
        f"{problem['test_setup_code']}\n{assertions}",
        entry_point=defined[0],
        timeout_s=LONG_S,
    )


def unlike(score: float, verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.reason for name, verdict in verdicts.items() if verdict.score != score}


def test_every_humaneval_solution_passes_its_tests(humaneval):
    found = {p["task_id"]: judged_humaneval(p, p["canonical_solution"]) for p in humaneval}
    assert len(found) == 164
    assert unlike(1.0, found) == {}


@pytest.mark.parametrize(
    "body",
    [
        "    pass\n",
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("    raise SystemExit\n", marks=pytest.mark.slow),
    ],
    ids=["pass", "nothing", "exit"],
)
def test_no_humaneval_problem_is_solved_without_a_body(humaneval, body):
    assert unlike(0.0, {p["task_id"]: judged_humaneval(p, body) for p in humaneval}) == {}


def test_mbpp_solutions_pass_their_tests_and_those_of_others_do_not(mbpp):
    some = mbpp[::20]
    assert unlike(1.0, {p["task_id"]: judged_mbpp(p, p["code"]) for p in some}) == {}
    mixed = pairwise(some)
    assert unlike(0.0, {p["task_id"]: judged_mbpp(p, other["code"]) for p, other in mixed}) == {}


@pytest.mark.slow
def test_every_mbpp_solution_passes_its_tests(mbpp):
    with ThreadPoolExecutor(2) as threads:
        verdicts = threads.map(lambda problem: judged_mbpp(problem, problem["code"]), mbpp)
        found = dict(zip((problem["task_id"] for problem in mbpp), verdicts, strict=True))
    assert len(found) == 974
    assert unlike(1.0, found) == {}
