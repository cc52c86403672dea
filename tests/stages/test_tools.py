"""Stages with tools, through the command line, and the recipes that are refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command import command
from tests.talking_models import QUESTIONS, question, talking_model, talking_tokenizer

ALONE = """\
name: tools
stages:
  alone:
    stage: evaluate
    model: ./talker
    tasks: "qa(file=q.csv, match=number)"
    styles: zero-shot
"""
HELPED = """\
  again:
    stage: evaluate
    model: ./talker
    tasks: "qa(file=q.csv, match=number)"
    styles: zero-shot
    tools: calculator
  both: {stage: compare, baseline: $alone, candidates: $again}
  helped:
    stage: evaluate
    model: ./talker
    tasks: tool_arithmetic
    prompts: [{file: asked.jsonl}]
    styles: zero-shot
    limit: 4
    tools: TOOLS
    max_turns: 3
    max_new_tokens: 80
"""
TRAINED = """\
name: tools
stages:
  trained:
    stage: grpo
    model: ./talker
    prompts: [{task: tool_arithmetic, rows: 2}, {file: asked.jsonl}] # asked by heart: it calls
    reward: [{verify: all}, {use: "mine:price", weight: 0.2}]
    tools: calculator
    max_turns: 3
    batch_size: 8
    gold: true
    best_of: 2
    training_args: {max_steps: 2, num_generations: 4, max_completion_length: 60}
"""
MINE = """\
def calculator(expression: str) -> str:
    \"\"\"Compute the value of an arithmetic expression.

    Args:
        expression: Numbers with + - * / // % ** and brackets, such as 12*(34+5).
    \"\"\"
    raise KeyError(expression)


async def calculate(expression: str) -> dict:
    \"\"\"Compute the value of an arithmetic expression.

    Args:
        expression: What.
    \"\"\"
    return {"value": 1}


def price(completions, **rest):
    return [-float(sum("tool_calls" in turn for turn in talk)) for talk in completions]


def silent(expression: str) -> str:
    return expression


def bare(expression) -> str:
    \"\"\"Compute.

    Args:
        expression: What.
    \"\"\"
    return expression


def vague(expression: str) -> str:
    \"\"\"Compute.\"\"\"
    return expression


def wide(*expressions: str) -> str:
    \"\"\"Compute.\"\"\"
    return ""
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    tokenizer = talking_tokenizer()
    talking_model(tokenizer).save_pretrained(folder / "talker")
    tokenizer.save_pretrained(folder / "talker")
    rows = ["question,answer"]
    for problem, answer in QUESTIONS.items():
        rows.append(f"{question(problem)},{answer or sum(map(int, problem.split(' + ')))}")
    (folder / "q.csv").write_text("\n".join(rows))
    asked = {"prompt": [{"role": "user", "content": question("47 * 35")}], "needs_tool": True}
    (folder / "asked.jsonl").write_text(json.dumps(asked) + "\n")
    (folder / "mine.py").write_text(MINE)
    return folder


def _items(name: str) -> list[dict[str, Any]]:
    lines = Path("runs", "tools", name, "items.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_tools_change_what_is_answered_and_are_compared_with_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    posttrain = command(monkeypatch, capsys)
    Path("recipe.yaml").write_text(ALONE + HELPED.replace("TOOLS", "mine:calculator"))
    assert posttrain("check", "recipe.yaml").code == 0
    assert posttrain("run", "recipe.yaml").code == 0
    right = {
        item["prompt"]: item["score"]
        for item in _items("again")
        if item["metric"] == "verified_accuracy"
    }
    assert right == dict.fromkeys(map(question, QUESTIONS), 1.0)
    assert all("calls" not in item for item in _items("alone"))
    failed = [item for item in _items("helped") if item.get("calls")]
    assert {call["error"] for item in failed for call in item["calls"]} >= {"raised"}
    written = [item["metric"] for item in _items("helped") if item["task"] == "asked.jsonl"]
    assert written == ["written", "called_tools", "calls_without_error"]
    shown = posttrain("compare", "recipe.yaml:both", "--full").out
    assert "called tools" in shown
    assert "./talker with tools" in shown


def _longest(told: str) -> int:
    """Return the tokens of the longest prompt, as `check` says it."""
    return int(re.findall(r"tokens: \d+ to (\d+)", told)[0])


def test_check_tells_of_templates_without_calls_and_counts_what_tools_take(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `check` passes, `run` runs: descriptions of tools take room in every prompt."""
    monkeypatch.chdir(folder)
    posttrain = command(monkeypatch, capsys)
    told = TRAINED
    Path("told.yaml").write_text(told)
    Path("untold.yaml").write_text(re.sub(r"    (tools|max_turns): .*\n", "", told))
    lengths = [_longest(posttrain("check", name).out) for name in ("told.yaml", "untold.yaml")]
    assert lengths[0] > lengths[1]
    shutil.copytree("talker", "mute")
    settings = json.loads(Path("mute/tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    Path("mute/tokenizer_config.json").write_text(json.dumps(settings))
    template = "{% for turn in messages %}{{ turn.content }}{% endfor %}"
    Path("mute/chat_template.jinja").write_text(template)
    Path("mute.yaml").write_text(told.replace("./talker", "./mute"))
    said = posttrain("check", "mute.yaml")
    assert said.code == 2
    assert said.err.startswith("mute.yaml:8:")


def test_a_policy_with_tools_is_trained_and_its_samples_show_the_turns(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    posttrain = command(monkeypatch, capsys)
    Path("trained.yaml").write_text(TRAINED)
    assert posttrain("check", "trained.yaml").code == 0
    said = posttrain("run", "trained.yaml")
    assert said.code == 0, said.err
    lines = Path("runs/tools/trained/samples.jsonl").read_text().splitlines()
    turns = [turns for line in lines if (turns := json.loads(line).get("turns"))]
    assert turns
    assert all(turn["role"] in ("assistant", "tool") for talk in turns for turn in talk)
    log = Path("runs/tools/trained/metrics.jsonl").read_text()
    for name in ("tools/call_frequency", "tools/failure_frequency", "tools/called_when_needed"):
        assert name in log


@pytest.mark.parametrize(
    ("tools", "line"),
    [
        ("calc", "there is no tool `calc`"),
        ("mine:silent", "mine.py:23: the function has no docstring"),
        ("mine:bare", "mine.py:27: `expression` has no annotation"),
        ("mine:vague", "mine.py:36: the docstring does not describe `expression`"),
        ("mine:wide", "mine.py:41: it takes `*` or `/`"),
        ("mine:none", "mine.py has no `none`"),
        ("{sql: none.db}", "`none.db` is not a file"),
        ("{sql: q.csv}", "`q.csv` is no SQLite database"),
        ("{name: python, use: 'mine:bare'}", "exactly one of `name`, `use`, `sql`"),
        ("[calculator, 'mine:calculator']", "two tools are called `calculator`"),
        ("[]", "`max_turns` is for a model with `tools`"),
        ("{name: calculator, timeout_s: 0}", "must be above 0"),
    ],
)
def test_tools_that_cannot_be_are_refused_at_check(
    folder: Path,
    tools: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    Path("wrong.yaml").write_text(ALONE + HELPED.replace("TOOLS", tools))
    refused = command(monkeypatch, capsys)("check", "wrong.yaml")
    assert refused.code == 2
    assert line in refused.err
    assert refused.err.startswith("wrong.yaml:")
    assert refused.err.count("\n") == 1
