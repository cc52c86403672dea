"""Pairs that people labelled, as questions to a judge with their answers; what learns from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.screening.evaluation_items import task_of_questions
from reward.judges.pairwise import Pair, comparison_requests
from tests.command import Command, command

RUBRIC = "It is kind."
RECIPE = """\
name: judging
seed: 3
stages:
  judged: {stage: judgements, data: {file: pairs.jsonl}, rubric: "It is kind."}
  tokenizer: {stage: tokenizer, data: $judged, vocab_size: 300}
  of_a_task: {stage: judgements, data: {task: stories, rows: 3}, principles: [Be kind., Be brief.]}
"""
PAIRS = [
    {"prompt": "How are you?", "chosen": "Well, thank you.", "rejected": "Go away."},
    {"prompt": "May I come in?", "chosen": "Please do.", "rejected": "No!"},
    {"prompt": "Why?", "chosen": "Because.", "rejected": "Because."},
]


def made_by(folder: Path, stage: str) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    made = folder / "runs" / "judging" / stage
    rows = [json.loads(line) for line in (made / "rows.jsonl").read_text().splitlines()]
    return rows, json.loads((made / "artifact.json").read_text())["metrics"]


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps(pair) + "\n" for pair in PAIRS)
    (tmp_path / "pairs.jsonl").write_text(lines)
    (tmp_path / "judging.yaml").write_text(RECIPE)
    return tmp_path


def test_a_pair_is_asked_in_both_orders_in_the_words_of_the_judge(
    folder: Path, posttrain: Command
) -> None:
    assert posttrain("run", "judging.yaml").code == 0
    rows, metrics = made_by(folder, "judged")
    assert [row["completion"][0]["content"] for row in rows] == ["A", "B"] * 2
    for number, row in enumerate(rows):
        pair = PAIRS[number // 2]
        prompt = pair["prompt"]
        asked = Pair(prompt, pair["chosen"], pair["rejected"], "")
        request = comparison_requests(asked, RUBRIC)[number % 2]
        assert [(turn["role"], turn["content"]) for turn in row["prompt"]] == list(request.messages)
    assert metrics["judged_pairs"] == 2
    assert metrics["judgements"] == 4
    assert metrics["left_out"] == {"chosen and rejected are equal": 1}
    assert json.loads((folder / "runs/judging/tokenizer/tokenizer.json").read_text())
    assert task_of_questions(folder / "runs/judging/judged") is None  # anything may be among them


def test_a_principle_is_drawn_for_each_pair(folder: Path, posttrain: Command) -> None:
    assert posttrain("run", "judging.yaml", "--until", "of_a_task").code == 0
    rows, _ = made_by(folder, "of_a_task")
    assert len(rows) == 6
    drawn = ["Criterion: Be kind." in row["prompt"][0]["content"] for row in rows]
    assert drawn[::2] == drawn[1::2]  # one for both orders
    assert all(("Criterion: Be brief." in row["prompt"][0]["content"]) is not kind
               for row, kind in zip(rows, drawn, strict=True))  # fmt: skip
    assert {row["source"] for row in rows} == {"stories"}
    # So that its questions are not held against test items of a task that keeps its splits apart.
    assert task_of_questions(folder / "runs/judging/of_a_task") == "stories"


@pytest.mark.parametrize(
    ("replaced", "by", "said"),
    [
        ("{file: pairs.jsonl}, rubric", "{file: pairs.jsonl, form: chat}, rubric", "form"),
        ('rubric: "It is kind."', 'rubric: ""', "rubric"),
        ("[Be kind., Be brief.]", "none.yaml", "none.yaml"),
    ],
)
def test_what_makes_no_judgements_is_refused_in_one_line(
    folder: Path, posttrain: Command, replaced: str, by: str, said: str
) -> None:
    text = RECIPE.replace(replaced, by)
    assert text != RECIPE
    (folder / "judging.yaml").write_text(text)
    checked = posttrain("check", "judging.yaml")
    assert checked.code == 2
    assert said in checked.err
    assert len(checked.err.strip().splitlines()) == 1
