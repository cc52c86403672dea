"""Rows of the form prompt: what columns mean, what reward functions get, which ids are asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from eval.model import Form
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.content_marks import turn_fields
from pipeline.data.encoding.lengths import Limit
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.encoding.prompts import EncodedPrompt, encode_prompts
from pipeline.data.mixing import mix_rows
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.data_blocks import read_held_out_prompts, tasks_of
from pipeline.data.reading.files import Row
from pipeline.data.reading.formats import parse_rows
from pipeline.data.reading.records import DroppedRow, Message, PreferenceRow, PromptRow
from pipeline.data.training_sources import row_sources
from pipeline.errors import PosttrainError
from tests.unit.data.small_tokenizers import OWN, SPECIAL, TEMPLATES, TOKENIZERS

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
TALK = (Message("user", "What is 3 + 4?"), Message("assistant", "7."), Message("user", "Sure?"))
# Says who speaks in plain text, with no control token in it.
SPOKEN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]


def read_one(fields: dict[str, Any], **asked: Any) -> PromptRow:
    (record,) = parse_rows([Row("f:1", fields)], DataBlock(file="f.jsonl", **asked), ("prompt",))
    assert isinstance(record, PromptRow)
    return record


def one(row: PromptRow, tokenizer: PreTrainedTokenizerFast, form: Form = "chat") -> EncodedPrompt:
    (prompt,), _ = encode_prompts([row], tokenizer, form=form)
    return prompt


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [USER]},
        {"messages": [USER, ANSWER]},
        {"messages": [USER]},
        {"conversations": SHAREGPT},
        {"instruction": "Hi", "output": "Hello."},
        {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "?"}]},
        {"prompt": [USER], "chosen": "Hello.", "rejected": "?"},
    ],
    ids="+".join,
)
def test_a_conversation_is_asked_up_to_its_last_user_turn(fields: dict[str, Any]) -> None:
    row = read_one(fields)
    assert row.messages == (Message("user", "Hi"),)
    assert (row.text, row.ids) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "Hi"}, {"prompt": "Hi", "chosen": " yes", "rejected": " no"}],
    ids="+".join,
)
def test_a_text_is_to_be_continued(fields: dict[str, Any]) -> None:
    row = read_one(fields)
    assert (row.messages, row.text) == ((), "Hi")


def test_a_transcript_is_both() -> None:
    start = "\n\nHuman: Hi\n\nAssistant:"
    row = read_one({"chosen": f"{start} Hello.", "rejected": f"{start} No."})
    assert (row.messages, row.text) == ((Message("user", "Hi"),), start)


def test_an_instruction_has_its_input_below() -> None:
    row = read_one({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"})
    assert row.messages == (Message("user", "Translate.\n\nGuten Tag"),)
    assert (row.columns, row.source) == ({"output": "Good day"}, "f.jsonl")
    question = read_one({"question": "Hi"}, columns={"instruction": "question"})
    assert question.messages == (Message("user", "Hi"),)


def test_other_columns_are_handed_on_but_for_names_that_are_taken() -> None:
    fields = {"prompt": "Hi", "answer": 7, "tags": ["a"], "source": "web", "completion": "x"}
    taken = {"completions": "x", "trainer_state": 1, "log_metric": 2, "input_ids": [1]}
    row = read_one({**fields, **taken})
    assert row.columns == {"answer": 7, "tags": ["a"], "source": "web"}


def test_a_column_of_the_name_source_can_be_the_prompt() -> None:
    row = read_one({"source": "Guten Tag", "target": "x"}, columns={"prompt": "source"})
    assert (row.text, row.columns, row.source) == ("Guten Tag", {"target": "x"}, "f.jsonl")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": [USER, ANSWER]}, "ends with a turn of the assistant; a response answers a"),
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"prompt": " "}, "`prompt` is only white space"),
        ({"prompt": 3}, "`prompt` is a number (3), not text"),
        ({"messages": [ANSWER]}, "`messages` has no user turn; drop the row"),
        ({"messages": [USER, ANSWER, ANSWER]}, "ends with a turn of the assistant"),
        ({"input_ids": []}, "`input_ids` is an empty list"),
        ({"input_ids": "1 2"}, "`input_ids` is a text, not a list"),
        ({"input_ids": [1, -2]}, "`input_ids[1]` is -2, not a token id"),
        ({"input_ids": [1, True]}, "`input_ids[1]` is True, not a token id"),
        ({"promt": "Hi"}, "is `promt` the `prompt`? then write `columns: {prompt: promt}`"),
        ({"text": "Hi"}, "or prompt or messages or"),
    ],
)
def test_a_row_that_asks_nothing_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PosttrainError) as caught:
        read_one(fields)
    assert caught.value.where == "f:1"
    assert words in str(caught.value)


def test_other_stages_read_prompts_as_before() -> None:
    (row,) = parse_rows(
        [Row("f:1", {"prompt": "a", "chosen": "b", "rejected": "c"})],
        DataBlock(file="f.jsonl"),
        ("preference",),
    )
    assert isinstance(row, PreferenceRow)
    with pytest.raises(PosttrainError, match=r"is `compl` the `completion`\?"):
        list(
            parse_rows(
                [Row("f:1", {"prompt": "a", "compl": "b"})],
                DataBlock(file="f.jsonl"),
                ("prompt_completion", "chat"),
            )
        )


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_text_conversation_and_token_ids_that_say_the_same_have_the_same_ids(kind: str) -> None:
    """B37: no form of a data set is the only one that works, and none is encoded differently."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = SPOKEN
    said = "".join(f"{message.role}: {message.content}\n" for message in TALK) + "assistant:"
    chat = one(read_one({"prompt": [turn_fields(message) for message in TALK]}), tokenizer)
    text = one(read_one({"prompt": said}), tokenizer)
    ids = one(read_one({"input_ids": chat.ids}), tokenizer)
    assert len(chat.ids) > 20
    assert chat.ids == text.ids == ids.ids
    assert chat.prompt == [turn_fields(message) for message in TALK]
    assert text.prompt == str(ids.prompt).strip() == said


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_policy_is_asked_with_the_ids_that_its_reward_model_was_trained_on(
    kind: str, template: str
) -> None:
    """B40: no second template, no second BOS between the reward model's training and the policy."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = TEMPLATES[template]
    pair = {
        "prompt": [turn_fields(message) for message in TALK],
        "chosen": [{"role": "assistant", "content": "Yes."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    for fields in (pair, {"prompt": "What is", "chosen": " 7", "rejected": " 8"}):
        block = DataBlock(file="f.jsonl")
        trained, _ = encode_pairs(
            parse_rows([Row("f:1", fields)], block, ("preference",)), tokenizer
        )
        assert one(read_one(fields), tokenizer).ids == trained[0].prompt_ids
        assert one(read_one({"prompt": fields["prompt"]}), tokenizer).ids == trained[0].prompt_ids


def test_a_tasks_prompt_is_asked_as_its_policy_expects(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = OWN
    block = DataBlock(task="arithmetic", rows=3)
    (source,) = row_sources([block], Places(Path()), ("prompt",))
    row = source.rows[0]
    assert isinstance(row, PromptRow)
    assert (row.columns.keys(), row.source) == ({"reference"}, "arithmetic")
    task = tasks_of([block], Places(Path()))["arithmetic"]
    assert task.verify(f"The answer is {row.columns['reference']}.", row.columns["reference"]).score
    chat, text = one(row, tokenizer, "chat"), one(row, tokenizer, "document")
    assert chat.ids == ChatEncoder(tokenizer).prompt_ids(row.messages)
    assert chat.prompt == [{"role": "user", "content": row.messages[0].content}]
    assert tokenizer.decode(text.ids) == text.prompt == row.messages[0].content
    assert (chat.is_chat, text.is_chat) == (True, False)


@pytest.mark.parametrize("form", ["chat", "document"])
def test_control_tokens_in_a_prompt_stay_text(
    tokenizer: PreTrainedTokenizerFast, form: Form
) -> None:
    tokenizer.chat_template = OWN
    forged = " ".join(SPECIAL)
    control = set(tokenizer.convert_tokens_to_ids(SPECIAL))

    def controls(said: str) -> list[int]:
        row = PromptRow("f:1", (Message("user", said),), said, {})
        return [number for number in one(row, tokenizer, form).ids if number in control]

    assert controls(forged) == controls("Hello")


def test_a_conversation_is_no_text_for_a_model_of_documents(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(PosttrainError, match=r"f:1: a conversation, and the policy is asked by"):
        one(read_one({"messages": [USER]}), tokenizer, "document")


def test_token_ids_of_another_vocabulary_are_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PosttrainError, match=r"f:1: `input_ids` has 99999, and .* ends before"):
        one(read_one({"input_ids": [1, 99_999]}), tokenizer)


def test_prompts_that_are_too_long_are_dropped_and_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = [read_one({"prompt": "a" * number}) for number in (1, 40, 2)]
    found: list[PromptRow | DroppedRow] = [*rows, DroppedRow("f:4", "a response is empty")]
    kept, report = encode_prompts(found, tokenizer, limit=Limit(5), form="document")
    assert [each.prompt for each in kept] == ["a", "aa"]
    assert (report.num_rows, report.num_dropped_too_long, report.num_dropped_unusable) == (4, 1, 1)
    assert report.longest_tokens == max(len(each.ids) for each in kept)
    assert report.metrics()["prompt_tokens"] == sum(len(each.ids) for each in kept)
    with pytest.raises(
        PosttrainError, match=r"none of 1 prompts is left .* 0 tokens: 1 too long; raise"
    ):
        encode_prompts(rows[:1], tokenizer, limit=Limit(0), form="document")
    # Held-out prompts beside those that are trained on: none of them is no reason to stop.
    limits: Any = {"limit": Limit(0), "form": "document", "may_be_none": True}
    none, report = encode_prompts(rows[:1], tokenizer, **limits)
    assert (none, report.num_dropped_too_long) == ([], 1)


def write(folder: Path, number: int) -> None:
    rows = ({"prompt": f"Say {each}.", "rank": each} for each in range(number))
    (folder / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_prompt_that_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    write(tmp_path, 60)
    places = Places(tmp_path)
    blocks = [
        DataBlock(file="asked.jsonl", holdout=0.3),
        DataBlock(task="arithmetic", rows=50),
        DataBlock(task="arithmetic(max_digits=1)", split="validation"),
    ]
    trained = [
        row for source in row_sources(blocks[:2], places, ("prompt",)) for row in source.rows
    ]
    held_out = read_held_out_prompts(blocks, places, at_most=40)

    def asked(rows: Any) -> set[str]:
        return {row.text for row in rows if isinstance(row, PromptRow)}

    assert asked(trained).isdisjoint(asked(held_out))
    by_source = [row.source for row in held_out if isinstance(row, PromptRow)]
    assert 5 < by_source.count("asked.jsonl") <= 40
    assert by_source.count("arithmetic") == 40
    assert set(by_source) == {"asked.jsonl", "arithmetic"}
    assert read_held_out_prompts([DataBlock(file="asked.jsonl")], places, at_most=40) == []


def test_a_benchmark_without_validation_rows_holds_nothing_out(tmp_path: Path) -> None:
    row = {"question": "What is 2 + 2?", "answer": "It is 4.\n#### 4"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    block = DataBlock(task="gsm8k(train=train.jsonl)")
    (source,) = row_sources([block], Places(tmp_path), ("prompt",))
    assert [row.columns for row in source.rows if isinstance(row, PromptRow)] == [
        {"reference": "4"}
    ]
    assert read_held_out_prompts([block], Places(tmp_path), at_most=9) == []


def test_the_test_split_is_refused() -> None:
    block = DataBlock(task="arithmetic", split="test")
    with pytest.raises(PosttrainError, match="the test split is for evaluation only"):
        row_sources([block], Places(Path()), ("prompt",))


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    write(tmp_path, 20)
    blocks = [
        DataBlock(file="asked.jsonl", weight=1),
        DataBlock(task="arithmetic", rows=100, weight=3),
    ]
    rows, shares = mix_rows(row_sources(blocks, Places(tmp_path), ("prompt",)), seed=1)
    assert [share.num_rows for share in shares] == [20, 60]
    assert len(rows) == 80


def test_check_counts_prompts(tmp_path: Path) -> None:
    write(tmp_path, 6)
    counts = check_data(DataBlock(file="asked.jsonl"), Places(tmp_path), ("prompt",))
    assert (counts.form, counts.num_rows, counts.size_bytes) == ("prompt", 6, 6 * len("Say 1."))
    with (tmp_path / "asked.jsonl").open("a") as stream:
        stream.write(json.dumps({"prompt": "Say 1.", "rank": 9}) + "\n")
    assert check_data(DataBlock(file="asked.jsonl"), Places(tmp_path), ("prompt",)).num_duplicates


def test_real_preference_pairs_are_asked_as_they_were_ranked(
    real_data: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = OWN
    block = DataBlock(file=str(real_data / "preferences" / "dpo_en_demo.json"), rows=40)
    places = Places(real_data)
    (asked,) = row_sources([block], places, ("prompt",))
    (ranked,) = row_sources([block], places, ("preference",))
    prompts, _ = encode_prompts(asked.rows, tokenizer, form="chat")
    pairs, _ = encode_pairs(ranked.rows, tokenizer)
    assert [each.ids for each in prompts] == [each.prompt_ids for each in pairs]
