"""The code task: its functions against Python itself, its hidden cases, what `verify` takes."""

import ast
import json
import re
from functools import cache

import pytest

from eval.task import Example, Split
from eval.tasks.code import Code

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Code()
CAP = json.dumps(
    {
        "function": "cap",
        "signature": "def cap(x):",
        "cases": [[[3], 3], [[7], 7], [[8], 7]],
    }
)


@cache
def examples() -> list[Example]:
    return [example for split in SPLITS for example in TASK.examples(split)]


def test_every_function_gives_its_cases_when_python_runs_it():
    for example in examples():
        expected = json.loads(example.reference)
        names: dict = {}
        exec(f"{example.document}{example.continuation}", names)  # noqa: S102 - our own functions
        for arguments, value in expected["cases"]:
            found = names[expected["function"]](*arguments)
            assert found == value, example
            assert type(found) is type(value), example


def test_no_constant_passes_the_hidden_cases():
    for example in examples():
        values = [value for _, value in json.loads(example.reference)["cases"]]
        assert any(value != values[0] for value in values), example


def test_a_prompt_shows_no_body_and_a_response_keeps_the_signature():
    for example in TASK.examples("test"):
        assert example.prompt.endswith('."""')
        assert example.response.split("\n")[0] in example.prompt
        assert "return" not in example.prompt


FIRST = "x|a|number|value|one|left|numbers|values|items|data|s|word|text|name"
SECOND = "y|b|two|right"


def canonical(body: str) -> str:
    """The body on one line, its parameters called x and y; letters in quotes stay."""
    for names, name in ((FIRST, "x"), (SECOND, "y")):
        body = re.sub(rf'(?<!")\b(?:{names})\b(?!")', name, body)
    return " ".join(body.split())


def told(document: str) -> list[str]:
    """The bodies in a document, canonical: of its functions, or beneath its comments."""
    if document.startswith("def"):
        assert ast.parse(document)
        return [canonical(part.partition('."""')[2]) for part in document.split("\n\n\n")]
    return [canonical(part.partition("\n")[2]) for part in document.split("# Return")[1:]]


def test_no_function_or_statement_of_a_document_is_a_test_item():
    ids = {split: {example.id for example in TASK.examples(split)} for split in SPLITS}
    assert {canonical(each) for each in ids["train"]} == ids["train"]
    found = {body for seed in range(3) for text in TASK.documents(seed) for body in told(text)}
    assert len(found & ids["train"]) > 1_000
    assert not found & (ids["validation"] | ids["test"])


def test_a_definition_a_fenced_block_and_a_bare_body_are_all_read():
    definition = "def cap(x):\n    if x > 7:\n        return 7\n    return x"
    body = definition.partition("\n")[2]
    for response in (
        definition,
        f"Here it is:\n```python\n{definition}\n```\nIt caps x.",
        f"Here it is:\n{definition}\n",
        f"```\n{body}\n```",
        f"\n{body}",
        "if x > 7:\n    return 7\nreturn x",
        "return min(x, 7)",
        "import math\n\ndef cap(x):\n    return math.floor(min(x, 7))",
    ):
        assert TASK.verify(response, CAP).score == 1.0, response


def test_what_gives_other_values_or_no_function_is_wrong():
    for response in (
        "return x",
        "return 7",
        "min(x, 7)",
        "def other(x):\n    return min(x, 7)",
        "def cap():\n    return 7",
        "if x > 7:\n  return 7\n   return x",
        "return min(x, 7",
        "Return the smaller one.",
        "",
        "import os\nos._exit(0)",
    ):
        assert TASK.verify(response, CAP).score == 0.0, response


@pytest.mark.parametrize(
    ("lines", "groups"), [("one", {"one line"}), ("several", {"several lines"})]
)
def test_the_lines_of_a_body_can_be_chosen(lines, groups):
    task = Code(lines)
    chosen = list(task.examples("test"))
    assert len(chosen) >= 220
    assert {example.group for example in chosen} == groups
    for example in chosen:
        assert (example.continuation.count("\n") == 1) == (lines == "one")


def test_other_lines_are_refused():
    with pytest.raises(ValueError, match="lines is `one`, `several` or `both`, not `two`"):
        Code("two")
