"""Checked rows to examples, and what is dropped or refused on the way."""

import pytest
from transformers import PreTrainedTokenizerFast

from pipeline.config.field_types import TooLong
from pipeline.data.encoding.examples import IGNORED, encode_documents, encode_records, mask_segments
from pipeline.data.encoding.lengths import Limit, describe_rows, is_worth_a_warning
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.data.reading.formats import ChatRow, Message, PromptCompletionRow, TextRow
from pipeline.errors import PosttrainError
from tests.unit.data.small_tokenizers import CHATML, OWN


def row(number: int, prompt: str, completion: str) -> PromptCompletionRow:
    return PromptCompletionRow(f"f:{number}", prompt, completion)


def test_what_is_trained_follows_from_the_form(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = OWN
    chat = ChatRow("f:2", (Message("user", "Hi"), Message("assistant", "Hello.")))
    rows = [row(1, "The capital", " of France"), chat, TextRow("f:3", "Paris")]
    examples, report = encode_records(rows, tokenizer, limit=Limit(50))
    assert [mask_segments(each, tokenizer) for each in examples] == [
        [("The capital", False), (" of France</s>", True)],
        [("<|user|>Hi<|end|><|assistant|>", False), ("Hello.<|end|>", True)],
        [("Paris</s>", True)],
    ]
    assert [each.where for each in examples] == ["f:1", "f:2", "f:3"]
    for each in examples:
        assert all(
            label in (IGNORED, number)
            for number, label in zip(each.input_ids, each.labels, strict=True)
        )
    assert report.num_trained_tokens == sum(
        label != IGNORED for each in examples for label in each.labels
    )
    assert report.metrics()["rows"] == 3


def test_many_rows_at_once_are_encoded_as_one_by_one(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    rows = [
        ChatRow(f"f:{n}", (Message("user", f"What is {n}?"), Message("assistant", f"It is {n}.")))
        for n in range(300)
    ]
    together, _ = encode_records(rows, tokenizer)
    apart = [encode_records([each], tokenizer)[0][0] for each in rows]
    assert together == apart


def test_rows_too_long_are_dropped_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [row(1, "a", " b"), row(2, "a", " b" * 30), row(3, "c", " d")]
    examples, report = encode_records(rows, tokenizer, limit=Limit(10))
    assert [each.where for each in examples] == ["f:1", "f:3"]
    assert report.num_rows == 3
    assert report.num_dropped_too_long == 1
    assert report.longest_tokens <= 10


def test_a_row_of_just_max_length_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    (example,), _ = encode_records([row(1, "a", " b b b")], tokenizer)
    length = len(example.input_ids)
    encode_records([row(1, "a", " b b b")], tokenizer, limit=Limit(length))
    with pytest.raises(PosttrainError, match="all 1 rows are longer than"):
        encode_records([row(1, "a", " b b b")], tokenizer, limit=Limit(length - 1))


@pytest.mark.parametrize("too_long", ["drop", "truncate"])
def test_a_prompt_without_room_for_an_answer_is_dropped_and_counted(
    tokenizer: PreTrainedTokenizerFast, too_long: TooLong
) -> None:
    rows = [row(1, "a", " b"), row(2, "a " * 30, " b")]
    examples, report = encode_records(rows, tokenizer, limit=Limit(10, too_long))
    assert [each.where for each in examples] == ["f:1"]
    assert (report.num_dropped_too_long, report.num_cut) == (1, 0)


def test_a_row_without_a_prompt_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    answers = ChatRow("f:9", (Message("assistant", "Hello."),))
    with pytest.raises(PosttrainError, match="f:9: every token of this row is trained"):
        encode_records([answers], tokenizer)


def test_documents_end_with_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    found = list(encode_documents([TextRow("f:1", "Paris"), TextRow("f:2", "a</s>")], tokenizer))
    assert [tokenizer.decode(each) for each in found] == ["Paris</s>", "a</s></s>"]
    assert [list(each).count(tokenizer.eos_token_id) for each in found] == [1, 1]


def test_a_long_document_comes_in_parts_that_are_the_whole(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = "".join(f"The answer is {n}.\n" for n in range(30_000))
    parts = list(encode_documents([TextRow("f:1", text)], tokenizer))
    whole = [*TextEncoder(tokenizer).document(text), tokenizer.eos_token_id]
    assert len(parts) > 2
    assert [int(number) for part in parts for number in part] == whole


def test_rows_that_spell_control_tokens_are_counted_and_shown_apart(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = CHATML
    rendered = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    rows = [
        PromptCompletionRow("f:1", rendered, "Hello.<|im_end|>"),
        PromptCompletionRow("f:2", "Hi", " Hello."),
        ChatRow("f:3", (Message("user", "What is <|im_end|>?"), Message("assistant", "A token."))),
    ]
    examples, report = encode_records(rows, tokenizer)
    assert report.metrics()["rows_spelling_control_tokens"] == 2
    assert describe_rows(report.metrics()).endswith("2 spell control tokens, which stay text")
    assert is_worth_a_warning(report.metrics())
    shown = ["".join(text for text, _ in mask_segments(each, tokenizer)) for each in examples]
    assert shown[0].count("[[<|im_start|>]]") == 2
    assert shown[0].endswith("Hello.[[<|im_end|>]]</s>")
    assert "[[" not in shown[1]
    assert "What is [[<|im_end|>]]?<|im_end|>" in shown[2]
