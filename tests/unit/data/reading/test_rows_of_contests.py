"""What is read of pairs that reward models rank: any preferences, and RewardBench's two forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.contests import ContestRow, read_contests
from pipeline.data.reading.records import DroppedRow, Message
from pipeline.errors import PosttrainError


def read(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[Any]:
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    block = DataBlock.model_validate({"file": "pairs.jsonl", **settings})
    return list(read_contests(block, Places(folder)))


def test_a_prompt_of_reward_bench_is_what_a_user_says(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go.", "subset": "alpacaeval-easy"}
    (found,) = read(tmp_path, [{**row, "id": 3}])
    assert found.pairs[0].prompt == (Message("user", "Hi?"),)
    assert found.pairs[0].text is None
    assert (found.subset, found.key, found.is_of_users) == ("alpacaeval-easy", "", True)


def test_plain_texts_without_a_subset_are_read_as_in_training(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [{"prompt": "Once", "chosen": " upon", "rejected": " ago"}])
    assert found.pairs[0].prompt == ()
    assert found.pairs[0].text == ("Once", " upon", " ago")
    assert not found.is_of_users


def test_one_chosen_response_meets_several_rejected_ones(tmp_path: Path) -> None:
    row = {"id": "ref:0", "prompt": "Hi?", "chosen": ["a"], "rejected": ["b", "c", "d"]}
    (found,) = read(tmp_path, [{**row, "subset": "Ties", "num_correct": 1}])
    assert (found.num_chosen, found.num_rejected) == (1, 3)
    assert [(pair.chosen, pair.rejected) for pair in found.pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
    ]
    assert (found.subset, found.key) == ("Ties", "ref:0")
    assert all(pair.prompt == (Message("user", "Hi?"),) for pair in found.pairs)


def test_more_chosen_than_rejected_responses_are_all_in_a_pair(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [{"prompt": "x", "chosen": ["a", "b", "c"], "rejected": ["d"]}])
    assert [(pair.chosen, pair.rejected) for pair in found.pairs] == [
        ("a", "d"),
        ("b", "d"),
        ("c", "d"),
    ]


def test_conversations_keep_their_form_beside_a_subset(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi?"}]
    answers = {
        name: [*turns, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")
    }
    (found,) = read(tmp_path, [{**answers, "subset": "mine"}])
    assert found.pairs[0].prompt == (Message("user", "Hi?"),)
    assert (found.pairs[0].chosen, found.subset) == ("chosen", "mine")


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    rows = [{"question": "Hi?", "good": "Hello.", "bad": ["b", "c"], "category": "chat"}]
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "subset": "category"}
    (found,) = read(tmp_path, rows, columns=columns)
    assert (found.subset, found.num_rejected) == ("chat", 2)
    assert found.pairs[0].prompt == (Message("user", "Hi?"),)


def test_a_contest_with_an_empty_response_is_dropped_whole_and_the_rest_keep_step(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": "1", "chosen": ["a"], "rejected": ["b", ""]},
        {"prompt": "2", "chosen": ["a"], "rejected": ["a", "b"]},
        {"prompt": "3", "chosen": ["a"], "rejected": ["b", "c"]},
    ]
    first, second, third = read(tmp_path, rows)
    assert isinstance(first, DroppedRow)
    assert first.why == "a response is empty"
    assert isinstance(second, DroppedRow)
    assert isinstance(third, ContestRow)
    assert third.pairs[0].prompt == (Message("user", "3"),)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "chosen": [], "rejected": ["b"]}, "`chosen` is an empty list"),
        ({"prompt": "x", "chosen": ["a"], "rejected": ["b"] * 65}, "has 65 responses"),
        ({"prompt": "x", "chosen": ["a", 3], "rejected": ["b"]}, "is a number"),
        ({"prompt": "x", "chosen": "a"}, "columns found: `prompt`, `chosen`"),
    ],
)
def test_a_row_that_is_no_contest_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(PosttrainError) as refused:
        read(tmp_path, [row])
    assert words in str(refused.value)
    assert "pairs.jsonl:1" in str(refused.value)


def test_a_task_gives_its_validation_pairs_by_what_is_wrong(tmp_path: Path) -> None:
    block = DataBlock.model_validate({"task": "arithmetic", "rows": 40})
    rows = list(read_contests(block, Places(tmp_path)))
    assert len(rows) == 40
    assert len({row.subset for row in rows if isinstance(row, ContestRow)}) > 1
