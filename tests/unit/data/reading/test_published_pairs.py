"""Pairs as they are published: of numbered outputs (LLMBar), and three sets as a whole."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.formats import DroppedRow, PreferenceRow, read_source
from pipeline.data.reading.holdout import is_held_out
from pipeline.data.reading.records import Message
from pipeline.errors import PosttrainError
from tests.unit.data.reading.test_preferences import PREFERENCE, read_one

LLMBAR = {"input": "Hi", "output_1": "Hello.", "output_2": "No.", "label": 1}


@pytest.mark.parametrize("label", [1, 2, "1", "2"])
def test_of_two_outputs_the_numbered_one_is_chosen(label):
    found = read_one({**LLMBAR, "label": label})
    assert found.prompt == (Message("user", "Hi"),)
    outputs = ("Hello.", "No.")
    assert (found.chosen, found.rejected) == (outputs if int(label) == 1 else outputs[::-1])
    assert found.text is None


@pytest.mark.parametrize("label", [0, 3, True, None, "first", 1.5])
def test_a_number_of_no_output_is_an_error(label):
    with pytest.raises(PosttrainError, match=r"f:1: `label` is .*, not 1 or 2; it is the number"):
        read_one({**LLMBAR, "label": label})


def test_two_outputs_under_other_names_are_renamed():
    theirs = {"question": "Hi", "a": "Hello.", "b": "No.", "better": 2}
    columns = {"input": "question", "output_1": "a", "output_2": "b", "label": "better"}
    assert read_one(theirs, columns=columns).chosen == "No."


def test_pairs_of_outputs_with_one_question_are_held_out_together():
    sides = {
        is_held_out({**LLMBAR, "output_1": str(number), "label": 1 + number % 2}, 0.5, {})
        for number in range(40)
    }
    assert len(sides) == 1


def test_every_pair_of_llmbar_is_read(real_data: Path) -> None:
    counts = {}
    for name in ("natural", "neighbor", "gptinst", "gptout", "manual"):
        block = DataBlock(file=f"llmbar/{name}.json")
        found = list(read_source(block, Places(real_data, {}), forms=PREFERENCE))
        pairs = json.loads((real_data / "llmbar" / f"{name}.json").read_text())
        for row, pair in zip(found, pairs, strict=True):
            assert isinstance(row, PreferenceRow)
            assert row.prompt[0].content == pair["input"]
            assert row.chosen == pair[f"output_{pair['label']}"]
            assert row.rejected == pair[f"output_{3 - pair['label']}"]
        counts[name] = len(found)
    assert counts == {"natural": 100, "neighbor": 134, "gptinst": 92, "gptout": 47, "manual": 46}


def test_of_hh_harmless_all_but_thirteen_rows_are_usable(real_data: Path) -> None:
    block = DataBlock(file="hh_harmless/test.jsonl.gz")
    found = list(read_source(block, Places(real_data, {}), forms=PREFERENCE))
    assert len(found) == 2_312
    assert Counter(row.why for row in found if isinstance(row, DroppedRow)) == {
        "the prompts differ": 5,
        "the turns do not alternate": 4,
        "a response is empty": 4,
    }
    usable = [row for row in found if isinstance(row, PreferenceRow)]
    assert len(usable) == 2_299
    for row in usable:
        assert row.text is not None
        assert row.text[0].endswith(f"{row.prompt[-1].content}\n\nAssistant:")
        assert not re.search(r"\n\n(Human|Assistant):", row.chosen + row.rejected)
    line = str(check_data(block, Places(real_data, {}), PREFERENCE))
    assert "2312 rows (preference), " in line
    assert "13 dropped (the prompts differ: 5, " in line


def test_all_of_the_sharegpt_pairs_are_usable(real_data: Path) -> None:
    block = DataBlock(file="preferences/dpo_en_demo.json")
    found = list(read_source(block, Places(real_data, {}), forms=PREFERENCE))
    assert len(found) == 300
    assert all(isinstance(row, PreferenceRow) for row in found)
