"""`dedup` and `decontaminate` in a recipe: what `check` and `plan` say of them, without torch."""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line

RECIPE = """\
name: clean
TOP
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: {task: facts}
    tokens: 20k
    sequence_length: 64
  sft: {stage: sft, model: $base, data: DATA, SFT}
  apart: {stage: evaluate, model: $base, texts: {file: apart.jsonl}}
  answers: {stage: evaluate, model: $sft, texts: {file: asked.jsonl}, LIMIT}
"""
ASKED = "Which of the following animals sleeps through the winter in a hole that it has dug?"
APART = "On the last day of May the two sisters walked to the lighthouse and painted its door red."


@pytest.fixture
def recipe(tmp_path: Path):
    """Return a function that writes a recipe, and beside it data of which row 2 is asked later."""
    rows = [("Hi.", " Hello."), (f"Well: {ASKED.upper()}", " The bear."), (APART, " Fine.")]
    data = [{"prompt": prompt, "completion": completion} for prompt, completion in rows]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    (tmp_path / "asked.jsonl").write_text(json.dumps({"text": ASKED}) + "\n")
    (tmp_path / "apart.jsonl").write_text(json.dumps({"text": APART}) + "\n")

    def write(**said: str) -> str:
        given = {"TOP": "seed: 1", "DATA": "{file: mine.jsonl}", "SFT": "batch_size: 8"} | said
        text = RECIPE.replace("LIMIT", given.pop("LIMIT", "limit: 9"))
        for place, words in given.items():
            text = text.replace(place, words)
        (tmp_path / "recipe.yaml").write_text(text)
        return "recipe.yaml"

    return write


def test_check_says_how_many_rows_hold_items_of_the_evaluations_that_follow(
    posttrain: Command, recipe
):
    said = posttrain("check", recipe())
    assert said.code == 0, said
    (line,) = [each for each in said.out.splitlines() if "test items" in each]
    assert is_like(
        line, "sft: mine.jsonl: 1 of 3 rows hold test items (1 of 1 of asked.jsonl); ..."
    )


def test_check_says_that_none_does(posttrain: Command, recipe, tmp_path: Path):
    (tmp_path / "asked.jsonl").write_text(json.dumps({"text": f"{APART} No, not quite."}) + "\n")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Hi.", "completion": " Hello."}\n')
    said = posttrain("check", recipe())
    assert "sft: mine.jsonl: none of 1 rows holds any of the 1 test items" in said.out


@pytest.mark.parametrize("where", ["TOP", "SFT"])
def test_check_and_run_refuse_them_where_the_recipe_says_so(posttrain: Command, recipe, where: str):
    path = recipe(**{where: "decontaminate: error"})
    for command in ("check", "run"):
        line = the_line(posttrain(command, path))
        assert is_like(line, "mine.jsonl: 1 of 3 rows hold test items (...)...mine.jsonl:2...; ...")


def test_what_is_asked_decides_the_result_only_where_rows_are_left_out(posttrain: Command, recipe):
    def fingerprints(**said: str) -> dict[str, str]:
        out = posttrain("plan", recipe(**said)).out
        lines = [line.split() for line in out.splitlines() if " run " in line]
        return {line[0]: line[3] for line in lines}

    warned, more = fingerprints(), fingerprints(LIMIT="limit: 8")
    refused = fingerprints(TOP="seed: 1\ndecontaminate: error")
    drop = {"TOP": "seed: 1\ndecontaminate: drop"}
    dropped, dropped_more = fingerprints(**drop), fingerprints(**drop, LIMIT="limit: 8")
    assert warned["sft"] == more["sft"] == refused["sft"]
    assert len({warned["sft"], dropped["sft"], dropped_more["sft"]}) == 3
    assert warned["tokenizer"] == dropped["tokenizer"] == dropped_more["tokenizer"]
    copies = fingerprints(DATA="{file: mine.jsonl, dedup: near}")
    assert copies["sft"] != warned["sft"]


def test_check_counts_the_rows_that_repeat(posttrain: Command, recipe, tmp_path: Path):
    mine = tmp_path / "mine.jsonl"
    path = recipe(DATA="{file: mine.jsonl, dedup: exact}")
    mine.write_text(mine.read_text() * 2)
    said = posttrain("check", path)
    assert "sft: mine.jsonl: 6 rows" in said.out
    assert "3 dropped (it repeats an earlier row: 3)" in said.out
    assert "1 of 3 rows hold test items" in said.out


WRONG = {
    "TOP: decontaminate: maybe": "recipe.yaml:2:16: `decontaminate` ...",
    "DATA: {file: mine.jsonl, dedup: almost}": "recipe.yaml:11:...dedup...",
    "DATA: {file: mine.txt, dedup: near}": "recipe.yaml:11:...one document; ...separator...",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_written_wrong_is_named(posttrain: Command, recipe, tmp_path: Path, what: str):
    (tmp_path / "mine.txt").write_text("One text.")
    place, _, words = what.partition(": ")
    line = the_line(posttrain("plan", recipe(**{place: words})))
    assert is_like(line, WRONG[what]), line
