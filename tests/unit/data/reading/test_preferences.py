"""Preference rows: what the columns mean, what is dropped, what a task gives."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.task import Example, FlawedResponse, Split, Task
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.files import Row
from pipeline.data.reading.formats import (
    ChatRow,
    DroppedRow,
    PreferenceRow,
    parse_rows,
    read_source,
)
from pipeline.data.reading.records import DropReason, Message
from pipeline.errors import PosttrainError
from reward.verdict import Verdict

PREFERENCE, SFT = ("preference",), ("chat", "prompt_completion")
HI, HELLO, NO = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "assistant", "content": "No."},
)
TEXTS = {"prompt": "Hi", "chosen": " Hello.", "rejected": " No."}
IMPLICIT = {"chosen": [HI, HELLO], "rejected": [HI, NO]}
SHAREGPT = {
    "conversations": [{"from": "system", "value": "Be."}, {"from": "human", "value": "Hi"}],
    "chosen": {"from": "gpt", "value": "Hello."},
    "rejected": {"from": "gpt", "value": "No."},
}


def transcript(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[n % 2]}: {turn}" for n, turn in enumerate(turns))


HH = {"chosen": transcript("a", "b", "c", " d "), "rejected": transcript("a", "b", "c", "e")}


def read_one(fields: dict, forms=PREFERENCE, **asked):
    (record,) = parse_rows([Row("f:1", fields)], DataBlock(file="f.jsonl", **asked), forms)
    return record


class Doubling(Task):
    """Two flawed responses to each of 1,500 examples of a split, the second as good as right."""

    name = "doubling"
    version = 1
    kind = "skill"
    summary = "twice a number"

    def examples(self, split: Split) -> Iterator[Example]:
        for n in range(1_500):
            flawed = (FlawedResponse("No.", "refuses"), FlawedResponse(f"It is {2 * n}.", "none"))
            text = f"Twice {n} ({split})?"
            right = str(2 * n)
            yield Example(
                text, text, f"It is {right}.", right, f"2 * {n} =", f" {right}", flawed=flawed
            )

    def documents(self, seed: int) -> Iterator[str]:
        yield f"2 * {seed} = {2 * seed}"

    def verify(self, response: str, reference: str) -> Verdict:
        return Verdict(float(reference in response))


def test_plain_texts_continue_the_prompt() -> None:
    expected = PreferenceRow("f:1", (), " Hello.", " No.", ("Hi", " Hello.", " No."))
    assert read_one(TEXTS) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [HI], "chosen": [HELLO], "rejected": [NO]},
        {"prompt": [HI], "chosen": HELLO, "rejected": NO},
        {"prompt": [HI], "chosen": "Hello.", "rejected": "No."},
        {"prompt": "Hi", "chosen": [HELLO], "rejected": [NO]},
        IMPLICIT,
        {"prompt": "Hi", **IMPLICIT},
        {"conversations": SHAREGPT["conversations"][1:], "chosen": SHAREGPT["chosen"],
         "rejected": SHAREGPT["rejected"]},
    ],
)  # fmt: skip
def test_conversations_come_in_several_ways_and_mean_the_same(fields: dict) -> None:
    expected = PreferenceRow("f:1", (Message("user", "Hi"),), "Hello.", "No.")
    assert read_one(fields) == expected


def test_earlier_turns_of_both_lists_are_the_prompt() -> None:
    system = {"role": "system", "content": "Be."}
    shared = [system, HI, HELLO, HI]
    found = read_one({"chosen": [*shared, HELLO], "rejected": [*shared, NO]})
    assert [each.role for each in found.prompt] == ["system", "user", "assistant", "user"]
    assert (found.chosen, found.rejected, found.text) == ("Hello.", "No.", None)
    assert read_one(SHAREGPT).prompt[0] == Message("system", "Be.")


def test_transcripts_are_conversations_and_running_text() -> None:
    found = read_one(HH)
    assert found.prompt == (
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
    )
    assert (found.chosen, found.rejected) == ("d", "e")
    assert found.text == (
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
        " d",
        " e",
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({**TEXTS, "rejected": " Hello."}, "chosen and rejected are equal"),
        ({**TEXTS, "rejected": "\n"}, "a response is empty"),
        ({"prompt": [HI], "chosen": [HELLO], "rejected": ""}, "a response is empty"),
        ({"chosen": [HI, {**NO, "content": ""}], "rejected": [HI, NO]}, "a response is empty"),
        ({**HH, "rejected": transcript("a", "b", "c", "d")}, "chosen and rejected are equal"),
        ({**HH, "rejected": transcript("a", "b", "c", "")}, "a response is empty"),
        ({**HH, "rejected": transcript("a", "x")}, "the prompts differ"),
        ({**HH, "rejected": transcript("a")}, "the last turn is not the assistant's"),
        ({**HH, "rejected": transcript("a", "b", "c")}, "the last turn is not the assistant's"),
        (
            {each: transcript("a", "b") + f"\n\nAssistant: {each}" for each in HH},
            "the turns do not alternate",
        ),
        (
            {each: transcript("a", "", "c", each) for each in HH},
            "a turn of the prompt is empty",
        ),
    ],
)
def test_rows_that_teach_nothing_are_dropped_and_say_why(fields: dict, why: DropReason) -> None:
    assert read_one(fields) == DroppedRow("f:1", why)


def test_a_margin_and_a_probability_stand_beside_a_pair() -> None:
    for fields in (TEXTS, IMPLICIT, SHAREGPT, HH):
        found = read_one({**fields, "margin": 2, "probability": 0.75})
        assert (found.margin, found.probability) == (2.0, 0.75)
        found = read_one({**fields, "margin": None, "probability": None})
        assert (found.margin, found.probability) == (None, None)
    renamed = read_one({**TEXTS, "gap": 0}, columns={"margin": "gap"})
    assert renamed.margin == 0.0


# columns of the second row (the first is TEXTS unless it is given alone), how the line begins
BAD = [
    ({**TEXTS, "margin": -1}, r"f\.jsonl:1: `margin` is -1; a margin is 0 or more"),
    ({**TEXTS, "margin": "1"}, r"f\.jsonl:1: `margin` is a text, not a number"),
    ({**TEXTS, "margin": float("inf")}, r"f\.jsonl:1: `margin` is inf"),
    ({**TEXTS, "margin": float("nan")}, r"f\.jsonl:1: `margin` is nan"),
    ({**HH, "margin": True}, r"f\.jsonl:1: `margin` is true, not a number"),
    ({**TEXTS, "probability": 0.4}, r"f\.jsonl:1: `probability` is 0\.4; it goes from 0\.5 to 1; "),
    ({**TEXTS, "chosen": None}, r"f\.jsonl:1: `chosen` is null, not an object"),
    ({**TEXTS, "chosen": 3}, r"f\.jsonl:1: `chosen` is a number \(3\)"),
    ({**TEXTS, "prompt": " "}, r"f\.jsonl:1: `prompt` is only white space; "),
    ({**TEXTS, "prompt": 3}, r"f\.jsonl:1: `prompt` is a number \(3\), not text"),
    ({**TEXTS, "rejected": "a \ud83d"}, r"f\.jsonl:1: `rejected` has half a character"),
    ({"prompt": [HI, HELLO], "chosen": "a", "rejected": "b"},
     r"f\.jsonl:1: the prompt in `prompt` ends with a turn of the assistant; "),
    ({"prompt": [HI], "chosen": [HI, HELLO], "rejected": [NO]},
     r"f\.jsonl:1: `chosen` is a list of 2 turns; beside a prompt it is one turn"),
    ({"prompt": [HI], "chosen": [HI], "rejected": [NO]}, r"f\.jsonl:1: `chosen` is a user turn; "),
    ({"prompt": [], "chosen": "a", "rejected": "b"}, r"f\.jsonl:1: `prompt` is an empty list"),
    ({"chosen": [HI, HELLO], "rejected": [HELLO, NO]},
     r"f\.jsonl:1: `chosen` and `rejected` differ in turn 1 already; all but the last turn "),
    ({"chosen": [HI, HELLO, HI, HELLO], "rejected": [HI, HELLO]},
     r"f\.jsonl:1: `chosen` and `rejected` differ in turn 2 already"),
    ({"chosen": [HI], "rejected": [NO]}, r"f\.jsonl:1: `chosen` ends with a user turn; "),
    ({"chosen": [HELLO], "rejected": [NO]}, r"f\.jsonl:1: .* hold one turn, and there is no `pro"),
    ({"chosen": [HI, HELLO], "rejected": "No."}, r"f\.jsonl:1: `chosen` is a list, and there is n"),
    ({"chosen": "a", "rejected": "b", "promt": "c"},
     r"f\.jsonl:1: `chosen` is a text, and there is no `prompt`; columns found: .*`promt`; "
     r"`columns: \{prompt: promt\}` names the prompt; without one: lists .* '\\n\\nHuman:'$"),
    ({"prompt": "a", "chosen": "a", "rejeted": "b"}, r"f\.jsonl:1: .* is `rejeted` the `rejected`"),
    ({**SHAREGPT, "chosen": {"from": "human", "value": "x"}}, r"f\.jsonl:1: `chosen` is a user tu"),
    ({**SHAREGPT, "chosen": {"value": "x"}}, r"f\.jsonl:1: `chosen` has no `from`; keys found"),
    ({**SHAREGPT, "conversations": "Hi"}, r"f\.jsonl:1: `conversations` is a text, not a list"),
    ({"messages": [HI, HELLO]}, r"f\.jsonl:1: columns found: `messages`; this is the form chat; "
     r"the stage reads preference"),
    ({"prompt": "a", "completion": " b"}, r"f\.jsonl:1: .*; this is the form prompt_completion; "),
    ({**TEXTS, "rejected": " Hello."}, r"f\.jsonl: every row is dropped \(chosen and rejected are"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "line"), BAD)
def test_a_bad_pair_gives_one_clear_line(tmp_path: Path, fields: dict, line: str) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps(fields))
    with pytest.raises(PosttrainError) as raised:
        check_data(DataBlock(file="f.jsonl"), Places(tmp_path, {}), PREFERENCE)
    assert re.match(line, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


def test_later_rows_are_of_the_first_rows_form(tmp_path: Path) -> None:
    both = (TEXTS, {"chosen": "a", "rejected": "b"})
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, both)))
    with pytest.raises(PosttrainError, match=r"f\.jsonl:2: no column `prompt`, .*; columns found"):
        check_data(DataBlock(file="f.jsonl"), Places(tmp_path, {}), PREFERENCE)


@pytest.mark.parametrize("fields", [TEXTS, IMPLICIT, SHAREGPT, HH])
def test_supervised_training_says_that_pairs_are_pairs(fields: dict) -> None:
    with pytest.raises(PosttrainError, match="this is the form preference; the stage reads pro"):
        read_one(fields, SFT)


def test_a_pair_beside_a_whole_chat_may_be_read_as_either() -> None:
    both = {"messages": [HI, HELLO], "prompt": "Hi", **IMPLICIT}
    assert isinstance(read_one(both, SFT), ChatRow)
    assert isinstance(read_one(both), PreferenceRow)


def test_dropped_rows_are_counted_by_reason(tmp_path: Path) -> None:
    equal, empty = {**TEXTS, "rejected": " Hello."}, {**TEXTS, "rejected": ""}
    lines = map(json.dumps, [TEXTS, equal, empty, TEXTS, equal])
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    counts = check_data(DataBlock(file="f.jsonl"), Places(tmp_path, {}), PREFERENCE)
    assert str(counts) == (
        "f.jsonl: 5 rows (preference), 26 bytes, 1 duplicates, 3 dropped "
        "(chosen and rejected are equal: 2, a response is empty: 1)"
    )


def test_a_task_gives_pairs_with_their_flaw_in_both_phrasings() -> None:
    block = DataBlock(task="doubling")
    found = list(read_source(block, Places(Path(), {}), forms=PREFERENCE, task=Doubling()))
    assert len(found) == 2_000
    assert found[0] == PreferenceRow(
        "task:doubling#1",
        (Message("user", "Twice 0 (train)?"),),
        "It is 0.",
        "No.",
        ("Twice 0 (train)?", " It is 0.", " No."),
        flaw="refuses",
    )
    assert found[1] == DroppedRow("task:doubling#2", "chosen and rejected are equal")


def test_a_demonstration_knows_its_document_form() -> None:
    first, *_ = read_source(
        DataBlock(task="doubling"), Places(Path(), {}), forms=SFT, task=Doubling()
    )
    assert isinstance(first, ChatRow)
    assert first.text == ("2 * 0 =", " 0")
    assert first.messages[1].content == "It is 0."


@pytest.mark.parametrize("forms", [PREFERENCE, SFT])
@pytest.mark.parametrize(
    ("split", "held_out", "expected"),
    [(None, True, "validation"), (None, False, "train"), ("train", True, "train")],
)
def test_what_is_held_out_of_a_task_is_its_validation_split(
    forms, split: str | None, held_out: bool, expected: str
) -> None:
    block = DataBlock(task="doubling", rows=9, split=split)
    found = read_source(block, Places(Path(), {}), forms=forms, task=Doubling(), held_out=held_out)
    usable = [row for row in found if not isinstance(row, DroppedRow)]
    assert len(usable) >= 5
    assert all(f"({expected})" in str(row) for row in usable)


def test_a_task_without_flawed_responses_says_so() -> None:
    class Plain(Doubling):
        def examples(self, split: Split) -> Iterator[Example]:
            yield Example("a", "a", "b", "b", "a", " b")

    with pytest.raises(PosttrainError, match="the task has no preference pairs"):
        next(
            read_source(DataBlock(task="plain"), Places(Path(), {}), forms=PREFERENCE, task=Plain())
        )
