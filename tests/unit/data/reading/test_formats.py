"""What columns mean."""

import json
from pathlib import Path

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.files import Row
from pipeline.data.reading.formats import (
    ChatRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    TextRow,
    parse_rows,
    read_source,
)
from pipeline.errors import PosttrainError

ALL = ("text", "prompt_completion", "chat")
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def read_one(fields: dict, forms=ALL, **asked):
    (record,) = parse_rows([Row("f:1", fields)], DataBlock(file="f.jsonl", **asked), forms)
    return record


def test_the_columns_show_the_form() -> None:
    assert read_one({"text": "a", "id": 3}) == TextRow("f:1", "a")
    assert read_one({"prompt": "a", "completion": " b"}) == PromptCompletionRow("f:1", "a", " b")
    chat = ChatRow("f:1", (Message("user", "Hi"), Message("assistant", "Hello.")))
    assert read_one({"messages": TURNS, "source": None}) == chat
    sharegpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    assert read_one({"conversations": sharegpt}) == chat


def test_an_instruction_is_a_user_turn_with_its_input_below() -> None:
    alpaca = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    assert read_one(alpaca).messages[0].content == "Translate.\n\nGuten Tag"
    assert read_one({**alpaca, "input": ""}).messages[0].content == "Translate."
    assert read_one({**alpaca, "input": None}).messages[1] == Message("assistant", "Good day")


def test_columns_are_renamed_first_and_may_swap() -> None:
    asked = {"columns": {"prompt": "question", "completion": "answer"}}
    found = read_one({"question": "2+2?", "answer": "4", "text": "x"}, **asked)
    assert found == PromptCompletionRow("f:1", "2+2?", "4")
    swapped = {"columns": {"prompt": "completion", "completion": "prompt"}}
    found = read_one({"prompt": "a", "completion": "b"}, **swapped)
    assert found == PromptCompletionRow("f:1", "b", "a")


def test_only_forms_that_the_stage_reads_are_thought_of() -> None:
    both = {"text": "Hi Hello.", "messages": TURNS}
    assert isinstance(read_one(both, ("text",)), TextRow)
    assert isinstance(read_one(both, ("prompt_completion", "chat")), ChatRow)
    assert isinstance(read_one(both, form="text"), TextRow)
    with pytest.raises(PosttrainError, match="the columns fit text or chat; say which"):
        read_one(both)
    with pytest.raises(PosttrainError, match="form `chat` is not what this stage reads"):
        read_one(both, ("text",), form="chat")


def test_counts_name_duplicates(tmp_path: Path) -> None:
    found = [{"prompt": "a", "completion": "ä"}] * 3 + [{"prompt": "a", "completion": "b"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(each) for each in found))
    counts = check_data(DataBlock(file="a.jsonl"), Places(tmp_path, {}), ALL)
    assert (counts.form, counts.num_rows, counts.num_duplicates) == ("prompt_completion", 4, 2)
    assert counts.size_bytes == 3 * 3 + 2


def test_asked_for_pairs_the_better_response_is_a_demonstration(tmp_path: Path) -> None:
    question = [{"from": "human", "value": "Hi"}]
    pair = {"chosen": {"from": "gpt", "value": "Hello."}, "rejected": {"from": "gpt", "value": "?"}}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"conversations": question, **pair}) + "\n")
    block = DataBlock(file=str(path), form="preference")
    (found,) = read_source(block, Places(tmp_path), forms=("chat", "prompt_completion"))
    assert isinstance(found, ChatRow)
    assert found.messages == (Message("user", "Hi"), Message("assistant", "Hello."))
    (kept,) = read_source(block, Places(tmp_path), forms=("preference",))
    assert isinstance(kept, PreferenceRow)
    with pytest.raises(PosttrainError, match="columns"):
        list(read_source(DataBlock(file=str(path)), Places(tmp_path), forms=("chat",)))
