"""Thumbs up and down: which columns and labels are read, what is dropped, what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.records import ChatRow, DroppedRow, PreferenceRow, UnpairedRow
from pipeline.errors import PosttrainError

FORMS = ("unpaired_preference", "preference")
TURNS = [{"role": "user", "content": "Legs?"}, {"role": "assistant", "content": "Four."}]
GPT = [{"from": "human", "value": "Legs?"}, {"from": "gpt", "value": "Four."}]
SHAPES: dict[str, dict[str, Any]] = {
    "TRL's texts": {"prompt": "Legs:", "completion": " 4"},
    "TRL's chats": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "messages": {"messages": TURNS},
    "ShareGPT": {"conversations": GPT},
    "Alpaca": {"instruction": "Legs?", "output": "Four."},
}


def read(folder: Path, *rows: dict[str, Any], forms: Any = FORMS, **block: Any) -> list[Any]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_records(DataBlock(file="rows.jsonl", **block), Places(folder), forms))


@pytest.mark.parametrize("column", ["label", "kto_tag"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_label_beside_any_answer_says_whether_it_was_wanted(
    shape: str, column: str, tmp_path: Path
) -> None:
    found = read(tmp_path, *({**SHAPES[shape], column: label} for label in (True, False)))
    assert [row.is_desirable for row in found] == [True, False]
    assert all(isinstance(row, UnpairedRow) for row in found)
    if shape != "TRL's texts":
        assert isinstance(found[0].answered, ChatRow)
        assert found[0].answered.messages[-1].content == "Four."


@pytest.mark.parametrize(
    ("label", "meaning"),
    [
        *((True, True), (1, True), (1.0, True), ("true", True), ("True", True), ("1", True)),
        *((False, False), (0, False), (0.0, False), ("false", False), (" FALSE ", False)),
    ],
)
def test_a_label_may_be_a_number_or_a_text(label: Any, meaning: bool, tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"prompt": "Legs:", "completion": " 4", "label": label})
    assert row.is_desirable is meaning


@pytest.mark.parametrize("label", [2, -1, 0.5, "good", "5", ["true"], {"a": 1}])
def test_any_other_label_is_an_error_that_names_the_row(label: Any, tmp_path: Path) -> None:
    row = {"prompt": "Legs:", "completion": " 4", "label": label}
    with pytest.raises(PosttrainError) as raised:
        read(tmp_path, {**row, "label": True}, row)
    assert str(raised.value).startswith("rows.jsonl:2: `label` is ")
    assert raised.value.hint.startswith("it is true for an answer that was wanted")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_that_nobody_judged_and_an_empty_answer_are_dropped_and_counted(
    shape: str, tmp_path: Path
) -> None:
    whole = SHAPES[shape]
    empty = json.loads(json.dumps(whole).replace("Four.", " ").replace(" 4", " "))
    found = read(
        tmp_path,
        {**whole, "label": True},
        {**whole, "label": None},
        {**whole, "label": ""},
        {**empty, "label": False},
    )
    assert [row.why for row in found if isinstance(row, DroppedRow)] == [
        *("it has no label", "it has no label"),
        "a response is empty",
    ]
    counts = check_data(DataBlock(file="rows.jsonl"), Places(tmp_path), FORMS)
    assert sum(counts.num_dropped_by_reason.values()) == 3
    assert counts.form == "unpaired_preference"


def test_pairs_are_read_by_the_same_stage(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"prompt": "Legs:", "chosen": " 4", "rejected": " no"})
    assert isinstance(row, PreferenceRow)


def test_a_column_of_another_name_is_named_and_read(tmp_path: Path) -> None:
    rows = [{"prompt": "Legs:", "completion": " 4", "thumbs_up": up} for up in (True, False)]
    with pytest.raises(PosttrainError) as raised:
        read(tmp_path, *rows)
    assert "`columns: {label: thumbs_up}` names it" in raised.value.hint
    found = read(tmp_path, *rows, columns={"label": "thumbs_up"})
    assert [row.is_desirable for row in found] == [True, False]


def test_the_same_answer_with_the_other_label_is_no_repeat(tmp_path: Path) -> None:
    row = {"prompt": "Legs of a dog, and of a cat too:", "completion": " 4"}
    for dedup in ("exact", "near"):
        found = read(
            tmp_path,
            *({**row, "label": label} for label in (True, True, False)),
            dedup=dedup,
        )
        assert [each.is_desirable for each in found] == [True, False]


def test_demonstrations_with_a_thumb_are_refused_and_with_another_label_are_not(
    tmp_path: Path,
) -> None:
    forms = ("chat", "prompt_completion")
    row = SHAPES["TRL's texts"]
    with pytest.raises(PosttrainError, match="says whether a completion is wanted") as raised:
        read(tmp_path, {**row, "label": True}, forms=forms)
    assert raised.value.hint.startswith("`stage: kto` learns from both")
    (found,) = read(tmp_path, {**row, "label": "animals"}, forms=forms)
    assert not isinstance(found, UnpairedRow)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [(True, False), (1, 0), ("true", "false")])
def test_answers_to_one_prompt_fall_on_the_same_side_of_a_holdout(
    shape: str, labels: Any, tmp_path: Path
) -> None:
    """A prompt that many users judged would otherwise be trained on and measured on."""
    rows: list[dict[str, Any]] = []
    for number in range(40):
        for label, answer in zip(labels, ("Four.", "Five."), strict=True):
            text = json.dumps(SHAPES[shape]).replace("Legs", f"Legs-{number}-")
            text = text.replace("Four.", answer).replace('" 4"', f'" {answer}"')
            rows.append({**json.loads(text), "label": label, "user": len(rows)})
    kept = read(tmp_path, *rows, holdout=0.3)
    assert 40 < len(kept) < 80
    numbers = [re.findall(r"Legs-(\d+)-", str(row.answered))[0] for row in kept]
    assert all(numbers.count(number) == 2 for number in numbers)
