"""Algebra, patterns and schemas: what is right, what cannot be graded, and what takes too long."""

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from reward.bounded import process
from reward.verifiers.json_schema import json_schema, problem_of_schema
from reward.verifiers.pattern import pattern, problem_of_pattern
from reward.verifiers.symbolic import is_expression, symbolic


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("x^2 + 2x + 1", "(x+1)^2"),
        (r"So the answer is $\frac{1}{2}$.", "0.5"),
        (r"It is $\boxed{\frac{\sqrt{8}}{2}}$", r"\sqrt{2}"),
        ("The answer is (2, 3)", "$(2,3)$"),
        (r"\boxed{x = 3}", "3"),
        ("#### 3/4", "0.75"),
        ("We add.\n#### 2\\sqrt{3}", r"\sqrt{12}"),
        (r"$\boxed{28\%}$", "0.28"),
        (r"\boxed{1{,}000}", "1000"),
        (r"$5 \text{ cm}$", "5"),
        (r"\boxed{\{1, 2\}}", r"\{2,1\}"),
        ("1.5e3", "1500"),
        ("0.111", "0,111"),
    ],
)
def test_an_expression_may_be_written_in_any_way(response: str, reference: str):
    assert symbolic(response, reference).score == 1.0


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("", "x"),
        ("I do not know", "x"),
        ("x^2 + 1", "1"),
        (r"\boxed{x+2}", "x+1"),
        (r"\boxed{1} \boxed{2}", "2"),
        ("(2, 4)", "(2,3)"),
        (r"\boxed{}", "3"),
        ("42", "43"),
        ("the expected expression", "x"),
    ],
)
def test_another_expression_or_none_is_wrong(response: str, reference: str):
    assert symbolic(response, reference).score == 0.0


@pytest.mark.parametrize("reference", ["", r"\frac{", "$", "x" * 3000])
def test_a_reference_that_is_no_expression_cannot_be_compared_with(reference: str):
    assert symbolic("$x$", reference).score is None
    assert not is_expression(reference)


def test_a_reference_that_cannot_be_read_is_compared_as_a_text():
    listed = r"x = \frac{1}{2}, x = \frac{-1 \pm \sqrt{13}}{4}"
    assert not is_expression(listed)
    assert symbolic(rf"\boxed{{{listed}}}", listed).score == 1.0


def test_what_cannot_be_computed_is_not_graded_and_the_next_answer_is():
    # The first is computed by one call that nothing interrupts, the second by Python.
    for response in ("9**9**9**9", "$" + "(" * 5000 + "1" + ")" * 5000 + "$"):
        verdict = symbolic(response, "3", cpu_s=0.5)
        assert verdict.score is None
        assert "more than 0.5 s" in verdict.reason
    assert symbolic("$y$", "y").score == 1.0


def test_the_answer_of_a_long_response_is_read_at_its_end():
    assert symbolic("so $x = 2$ " * 100_000 + r"\boxed{2x}", "2x").score == 1.0


def test_a_verdict_may_be_asked_for_in_threads():
    found: list[float | None] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(symbolic(f"${n}x$", f"x*{n}").score))
        for n in range(2, 6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [1.0] * 4


def _in_a_fork(connection) -> None:
    connection.send(symbolic("$3a$", "a*3").score)


def test_a_forked_process_has_a_grader_of_its_own():
    assert symbolic("$2a$", "a*2").score == 1.0
    ours, theirs = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork").Process(target=_in_a_fork, args=(theirs,))
    fork.start()
    assert ours.poll(60)
    assert ours.recv() == 1.0
    fork.join()
    assert symbolic("$4a$", "a*4").score == 1.0


def test_a_process_that_was_killed_is_replaced():
    assert symbolic("$2b$", "b*2").score == 1.0
    (grader, *_) = process._idle
    os.kill(grader._process.pid, signal.SIGKILL)
    assert symbolic("$3b$", "b*3").score == 1.0


def test_a_pattern_is_searched_for():
    assert pattern("It costs 12 euros", r"\d+ euros").score == 1.0
    assert pattern("It costs 12 euros", r"\A\d+ euros\Z").score == 0.0
    assert pattern("LIMA", "(?i)lima").answer == "LIMA"
    assert pattern("", ".").score == 0.0


def test_a_pattern_that_backtracks_forever_is_not_graded():
    verdict = pattern("a" * 50 + "b", "(a+)+c", cpu_s=0.3)
    assert (verdict.score, "more than 0.3 s" in verdict.reason) == (None, True)
    assert pattern("x" * 1_000_001, "x").score is None


@pytest.mark.parametrize("text", ["", "(", "*", "(?P<a>", "a{99999999999}", "x" * 2001, "(" * 999])
def test_what_is_no_pattern_is_said_to_be_none(text: str):
    assert problem_of_pattern(text)
    assert pattern("x", text).score is None


PERSON = json.dumps(
    {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "born": {"type": "string", "format": "date"}},
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ('{"name": "Ann"}', 1.0),
        ('Here it is:\n```json\n{"name": "Ann", "born": "1990-02-03"}\n```', 1.0),
        ('```\n{"name": "Ann"}\n```', 1.0),
        ('{"name": "Ann", "born": "soon"}', 0.0),
        ('{"name": "Ann", "age": 3}', 0.0),
        ('Sure: {"name": "Ann"}', 0.0),
        ('{"name": 3}', 0.0),
        ("{'name': 'Ann'}", 0.0),
        ('{"name": NaN}', 0.0),
        ("", 0.0),
        ("[" * 100_000, 0.0),
        ('{"name": ' + "9" * 10_000 + "}", 0.0),
        ('{"name": 1e999}', 0.0),
    ],
)
def test_json_follows_its_schema_or_not(response: str, right: float):
    assert json_schema(response, PERSON).score == right


DOUBLING = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("{", "no JSON"),
        ("3", "a schema is a mapping"),
        ('{"type": "int"}', "$.type"),
        ('{"pattern": "("}', "$.pattern"),
        ('{"format": "uri"}', "is not checked here"),
        ('{"$schema": "http://example.org/mine"}', "no draft that is known"),
        ('{"$ref": "https://example.org/other.json"}', "nothing is fetched"),
        ('{"$ref": "#/$defs/none"}', "is not in the schema"),
        ('{"$ref": "#"}', "refers to itself"),
        (json.dumps({"$defs": {**DOUBLING, "a40": {}}, "$ref": "#/$defs/a0"}), "more than 2 s"),
    ],
)
def test_what_is_no_schema_to_check_by_is_said_to_be_none(schema: str, why: str):
    assert why in problem_of_schema(schema)
    if why != "more than 2 s":
        assert json_schema("1", schema).score is None


def test_a_pattern_in_a_schema_is_bounded_too():
    verdict = json_schema(json.dumps("a" * 50), '{"pattern": "^(a+)+b"}', cpu_s=0.3)
    assert (verdict.score, "more than 0.3 s" in verdict.reason) == (None, True)


def test_the_process_ends_with_its_parent(tmp_path: Path):
    import subprocess
    import sys
    import time

    source = (
        "import os; from reward.bounded import process; process.ask('readable', '$x$');"
        "print(process._idle[0]._process.pid, flush=True); os._exit(0)"
    )
    said = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    path = Path(f"/proc/{int(said.stdout)}")
    deadline = time.monotonic() + 30
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not path.exists() or "Z" in (path / "stat").read_text().split()[2]
