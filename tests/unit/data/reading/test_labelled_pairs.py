"""Which pairs an exam takes: one a prompt, drawn by a hash, the sides too."""

import json
from collections import Counter

import pytest

from pipeline.config.licence import LicenceBlock
from pipeline.config.references import Places
from pipeline.data.reading.labelled_pairs import has_pairs, read_labelled_pairs, read_task_pairs
from pipeline.errors import PosttrainError


def write(folder, rows) -> Places:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Places(folder)


def chat(number: int, **changed) -> dict:
    return {
        "prompt": [{"role": "user", "content": f"Question {number}"}],
        "chosen": f"yes {number}",
        "rejected": "no",
        **changed,
    }


def read(places, **asked):
    return read_labelled_pairs(LicenceBlock(file="pairs.jsonl", **asked), places)


def test_one_pair_of_each_prompt_is_taken_whatever_the_order_of_the_rows(tmp_path):
    rows = [chat(number % 40, rejected=f"no {number}") for number in range(120)]
    found = read(write(tmp_path, rows), pairs=30)
    prompts = [pair.row.prompt[0].content for pair in found.pairs]
    assert len(set(prompts)) == len(prompts) == 30
    assert (found.num_read, found.num_unusable) == (120, 0)
    again = read(write(tmp_path, rows[::-1]), pairs=30)
    assert [(p.key, p.label) for p in again.pairs] == [(p.key, p.label) for p in found.pairs]
    fewer = read(write(tmp_path, rows), pairs=10)
    assert {pair.key for pair in fewer.pairs} < {pair.key for pair in found.pairs}


def test_the_better_response_stands_on_either_side(tmp_path):
    found = read(write(tmp_path, [chat(number) for number in range(200)]))
    sides = Counter(pair.label for pair in found.pairs)
    assert 70 < sides["first"] < 130
    for pair in found.pairs:
        better = pair.first if pair.label == "first" else pair.second
        assert better.content.startswith("yes")
        assert {pair.first.content, pair.second.content} == {pair.row.chosen, "no"}
        assert pair.lengths == (len(pair.first.content), len(pair.second.content))


def test_rows_that_are_no_pairs_are_counted(tmp_path):
    rows = [chat(1), chat(2, chosen="no"), chat(3, rejected=" "), chat(4)]
    found = read(write(tmp_path, rows))
    assert (len(found.pairs), found.num_read, found.num_unusable) == (2, 4, 2)
    with pytest.raises(PosttrainError, match="none of its 1 rows is a pair to be examined on"):
        read(write(tmp_path, [chat(2, chosen="no")]))


def test_of_a_source_that_is_trained_on_the_other_part_is_read(tmp_path):
    places = write(tmp_path, [chat(number) for number in range(100)])
    part, whole = read(places, holdout=0.3), read(places)
    assert 15 < len(part.pairs) < 45
    assert {pair.key for pair in part.pairs} < {pair.key for pair in whole.pairs}


def test_tasks_share_the_pairs_and_those_without_any_take_no_part(tmp_path):
    places = Places(tmp_path)
    found = read_task_pairs(["facts", "gsm8k", "stories"], places, at_most=60)
    assert found.source == "facts, stories"
    assert len(found.pairs) == 60
    assert {pair.row.where.split("#")[0] for pair in found.pairs} == {"task:facts", "task:stories"}
    assert read_task_pairs(["gsm8k"], places, at_most=60) is None
    assert read_task_pairs([], places, at_most=60) is None
    assert has_pairs("arithmetic", places)
    assert not has_pairs("gsm8k", places)


def test_rewardbenchs_prompt_is_what_a_user_says(tmp_path):
    row = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "subset": "chat", "id": 3}
    rows = [row, {**row, "prompt": "Ho", "chosen": ["Ha."], "rejected": ["No.", "Never."]}]
    found = read(write(tmp_path, rows))
    assert [pair.row.prompt[0].role for pair in found.pairs] == ["user", "user"]
    assert {pair.row.chosen for pair in found.pairs} == {"Hello.", "Ha."}


def test_every_pair_of_llmbar_can_be_an_exam(real_data):
    places = Places(real_data)
    for name, num_pairs in (("natural", 100), ("manual", 46)):
        block = LicenceBlock(file=f"llmbar/{name}.json", pairs=500)
        assert len(read_labelled_pairs(block, places).pairs) == num_pairs
