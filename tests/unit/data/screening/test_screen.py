"""Rows of a training stage held against what is asked later: counted, listed, dropped, refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.data_blocks import read_marked_records
from pipeline.data.reading.records import Record
from pipeline.data.screening.evaluation_items import Evaluation
from pipeline.data.screening.screen import Screen
from pipeline.errors import PosttrainError
from pipeline.files.names import OVERLAPS

ASKED = (
    "How many windows does a house of three floors have if each floor has four rooms and each "
    "room has two windows?",
    "Which of the following animals sleeps through the winter in a hole that it dug for itself?",
)
CLEAN = ("Tell me about the sea at night.", "Name three colours.", "Who wrote this letter and why?")

OWN_TASK = """
from eval.task import Example, Task
from reward.verdict import Verdict


class Doubles(Task):
    name, version, kind, summary = "doubles", 1, "skill", "twice a number"

    def examples(self, split):
        # Number 7 is in both splits: a mistake of the user's.
        numbers = {"train": range(10), "test": range(7, 20), "validation": range(20, 22)}[split]
        for n in numbers:
            prompt = f"Please tell me in one word what you get by doubling the number {n}, friend."
            yield Example(str(n), prompt, str(2 * n), str(2 * n), prompt, f" {2 * n}")

    def documents(self, seed):
        return (f"{e.document}{e.continuation}" for e in self.examples("train"))

    def verify(self, response, reference):
        return Verdict(float(reference in response))
"""


def chats(folder: Path, *prompts: str) -> DataBlock:
    rows = ({"prompt": prompt, "completion": " Well."} for prompt in prompts)
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataBlock.model_validate({"file": "mine.jsonl"})


def asked(folder: Path, *texts: str) -> Evaluation:
    (folder / "asked.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return Evaluation("answers", texts=(DataBlock.model_validate({"file": "asked.jsonl"}),))


def screened(
    folder: Path, block: DataBlock, evaluation: Evaluation, how: Any = "warn", forms: Any = None
) -> tuple[list[Record], Screen]:
    places = Places(folder)
    screen = Screen(how, [evaluation], [block], places)
    found = read_marked_records(block, places, forms or ("chat", "prompt_completion"))
    return list(screen(block, found)), screen


def test_rows_that_hold_test_items_are_counted_and_listed_and_stay(tmp_path: Path):
    block = chats(tmp_path, CLEAN[0], f"Hello! {ASKED[1]}", CLEAN[1], ASKED[1].upper())
    rows, screen = screened(tmp_path, block, asked(tmp_path, *ASKED))
    assert len(rows) == 4
    metrics = screen.metrics()
    assert metrics["rows_overlapping"] == 2
    assert (metrics["test_items_overlapping"], metrics["test_items_compared"]) == (1, 2)
    (line,) = metrics["overlaps"]
    assert "mine.jsonl: 2 of 4 rows hold test items (1 of 2 of asked.jsonl)" in line
    assert "mine.jsonl:2" in line
    screen.write(tmp_path)
    listed = [json.loads(each) for each in (tmp_path / OVERLAPS).read_text().splitlines()]
    assert [each["row"] for each in listed] == ["mine.jsonl:2", "mine.jsonl:4"]
    assert listed[0]["items"][0]["of"] == "asked.jsonl"
    assert listed[0]["items"][0]["item"] == "asked.jsonl:2"
    assert listed[0]["items"][0]["text"].startswith("Which of the following")


def test_each_source_is_told_of_however_many_rows_another_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.data.screening.screen._LISTED", 2)
    evaluation = asked(tmp_path, *ASKED)
    blocks = [chats(tmp_path, *[ASKED[0]] * 5)]
    (tmp_path / "more.jsonl").write_text((tmp_path / "mine.jsonl").read_text())
    blocks.append(DataBlock.model_validate({"file": "more.jsonl"}))
    screen = Screen("warn", [evaluation], blocks, Places(tmp_path))
    for block in blocks:
        found = read_marked_records(block, Places(tmp_path), ("prompt_completion",))
        assert len(list(screen(block, found))) == 5
    lines = screen.metrics()["overlaps"]
    assert ["mine.jsonl:1" in lines[0], "more.jsonl:1" in lines[1]] == [True, True]
    screen.write(tmp_path)
    assert len((tmp_path / OVERLAPS).read_text().splitlines()) == 2


def test_rows_that_hold_test_items_are_dropped_where_the_recipe_says_so(tmp_path: Path):
    block = chats(tmp_path, CLEAN[0], ASKED[1], CLEAN[1])
    rows, screen = screened(tmp_path, block, asked(tmp_path, *ASKED), "drop")
    assert [row.where for row in rows] == ["mine.jsonl:1", "mine.jsonl:3"]
    assert screen.metrics()["rows_dropped_overlapping"] == 1
    assert "left out" in screen.metrics()["overlaps"][0]


def test_rows_that_hold_test_items_are_refused_where_the_recipe_says_so(tmp_path: Path):
    block = chats(tmp_path, CLEAN[0], ASKED[1], CLEAN[1])
    with pytest.raises(PosttrainError, match=r"mine.jsonl: 1 of 3 rows hold test items .*drop"):
        screened(tmp_path, block, asked(tmp_path, *ASKED), "error")


def test_a_file_that_is_trained_on_and_evaluated_is_found_whole(tmp_path: Path):
    # As in extract0#1 and ru-gpts#23.
    asked(tmp_path, *ASKED, *CLEAN)
    block = DataBlock.model_validate({"file": "asked.jsonl"})
    evaluation = Evaluation("answers", texts=(block,))
    _, screen = screened(tmp_path, block, evaluation, forms=("text",))
    assert screen.metrics()["rows_overlapping"] == 5
    with pytest.raises(PosttrainError, match="every row holds test items"):
        screened(tmp_path, block, evaluation, "drop", forms=("text",))


def test_the_part_that_is_held_out_is_not_found_in_the_rest(tmp_path: Path):
    about = [(n * n + 1, n * 31) for n in range(40)]
    distinct = [f"This is a text about subject {a} and {b}, of its own." for a, b in about]
    asked(tmp_path, *distinct)
    block = DataBlock.model_validate({"file": "asked.jsonl", "holdout": 0.3})
    _, screen = screened(tmp_path, block, Evaluation("e", texts=(block,)), forms=("text",))
    assert screen.metrics()["test_items_compared"] > 5
    assert screen.metrics()["rows_overlapping"] == 0


def test_prompts_that_are_evaluated_are_found(tmp_path: Path):
    block = chats(tmp_path, CLEAN[0], "Name three colours!", CLEAN[2])
    (tmp_path / "ask.jsonl").write_text('{"prompt": "name three  colours"}\n')
    prompts = (DataBlock.model_validate({"file": "ask.jsonl"}),)
    _, screen = screened(tmp_path, block, Evaluation("e", prompts=prompts))
    assert screen.metrics()["rows_overlapping"] == 1


@pytest.mark.parametrize("task", ["facts", "arithmetic", "stories", "logic", "sql"])
def test_a_generated_task_is_not_held_against_its_own_items(tmp_path: Path, task: str):
    for form, given in ((None, ("chat", "prompt_completion")), ("text", ("text",))):
        block = DataBlock.model_validate({"task": task, "form": form, "rows": 50})
        texts = (DataBlock.model_validate({"task": "facts"}),)
        evaluation = Evaluation("e", tasks=("facts", task), texts=texts)
        rows, screen = screened(tmp_path, block, evaluation, "error", forms=given)
        assert len(rows) == 50
        assert screen.metrics() == {}


def test_a_file_is_held_against_the_items_of_a_generated_task(tmp_path: Path):
    from pipeline.data.reading.tasks import load_task

    items = load_task("logic", Places(tmp_path)).test_items(5)
    block = chats(tmp_path, CLEAN[0], f"Try this: {items[3].prompt}")
    _, screen = screened(tmp_path, block, Evaluation("e", tasks=("logic",), limit=5))
    assert screen.metrics()["rows_overlapping"] == 1
    _, screen = screened(tmp_path, block, Evaluation("e", tasks=("logic",), limit=3))
    assert screen.metrics()["rows_overlapping"] == 0


def test_a_users_task_that_trains_on_its_test_items_is_found(tmp_path: Path):
    (tmp_path / "own.py").write_text(OWN_TASK)
    block = DataBlock.model_validate({"task": "own:Doubles"})
    rows, screen = screened(tmp_path, block, Evaluation("e", tasks=("own:Doubles",)))
    assert len(rows) == 10
    # Three prompts are test items, word for word; the others share their wording with them.
    assert screen.metrics()["rows_overlapping"] == 3


def test_what_cannot_be_read_is_said_and_refused_where_test_items_are(tmp_path: Path):
    block = chats(tmp_path, *CLEAN)
    evaluation = Evaluation("e", tasks=("gsm8k(test=gone.jsonl)",))
    rows, screen = screened(tmp_path, block, evaluation)
    assert len(rows) == 3
    assert "not compared with gsm8k(test=gone.jsonl)" in screen.metrics()["overlaps"][0]
    with pytest.raises(PosttrainError, match="no such file"):
        screened(tmp_path, block, evaluation, "drop")


def test_tasks_of_the_harness_are_said_not_to_be_compared(tmp_path: Path):
    block = chats(tmp_path, *CLEAN)
    _, screen = screened(tmp_path, block, Evaluation("e", harness=("arc_easy",)), "drop")
    assert screen.metrics()["overlaps"] == [
        "not compared with arc_easy: lm-evaluation-harness asks it"
    ]


def test_rows_that_repeat_are_counted(tmp_path: Path):
    chats(tmp_path, *CLEAN, *CLEAN)
    block = DataBlock.model_validate({"file": "mine.jsonl", "dedup": "exact"})
    rows, screen = screened(tmp_path, block, Evaluation("e"))
    assert len(rows) == 3
    assert screen.metrics() == {"rows_repeated": 3}
