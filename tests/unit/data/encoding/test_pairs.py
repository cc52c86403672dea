"""Preference rows to token ids: the same ids as in supervised training, and what is dropped."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.examples import encode_records, mask_segments
from pipeline.data.encoding.lengths import Limit
from pipeline.data.encoding.pairs import EncodedPair, encode_pairs
from pipeline.data.reading.formats import (
    ChatRow,
    DroppedRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    read_source,
)
from pipeline.data.reading.records import ToolCall
from pipeline.errors import PosttrainError
from tests.unit.data.small_tokenizers import CHATML, OWN, SPECIAL, TEMPLATES, TOKENIZERS

TALK = (
    Message("user", "What is 3 + 4?"),
    Message("assistant", "The answer is 7."),
    Message("user", "Hello, how are you today?"),
)


def chat(number: int, chosen: str, rejected: str, prompt=TALK, **more) -> PreferenceRow:
    return PreferenceRow(f"f:{number}", prompt, chosen, rejected, **more)


def texts(number: int, prompt: str, chosen: str, rejected: str, **more) -> PreferenceRow:
    return PreferenceRow(f"f:{number}", (), chosen, rejected, (prompt, chosen, rejected), **more)


def one(row: PreferenceRow, tokenizer: PreTrainedTokenizerFast, max_length: int = 10**6):
    (pair,), _ = encode_pairs([row], tokenizer, limit=Limit(max_length))
    return pair


def decoded(pair: EncodedPair, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [
        str(tokenizer.decode(ids)) for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
    ]


def test_the_response_is_the_last_turn_with_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    prompt, chosen, rejected = decoded(one(chat(1, "Paris.", "No."), tokenizer), tokenizer)
    assert prompt.endswith("7.<|im_end|>\n<|im_start|>user\nHello, how are you today?<|im_end|>\n"
                           "<|im_start|>assistant\n")  # fmt: skip
    assert (chosen, rejected) == ("Paris.<|im_end|>", "No.<|im_end|>")


def test_plain_texts_end_with_eos_even_where_there_is_a_template(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = CHATML
    pair = one(texts(1, "The capital", " of France", " Paris"), tokenizer)
    assert decoded(pair, tokenizer) == ["The capital", " of France</s>", " Paris</s>"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_pair_has_the_ids_of_supervised_training_and_of_asking(kind: str, template: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = TEMPLATES[template]
    pair = one(chat(1, "Paris.", " The answer\n"), tokenizer)
    assert pair.prompt_ids == ChatEncoder(tokenizer).prompt_ids(TALK)
    for answer, ids in (("Paris.", pair.chosen_ids), (" The answer\n", pair.rejected_ids)):
        row = ChatRow("f:1", (*TALK, Message("assistant", answer)))
        # Of some templates an earlier answer is an example of its own, before this one.
        example = encode_records([row], tokenizer)[0][-1]
        whole = pair.prompt_ids + ids
        assert example.input_ids[: len(whole)] == whole
        assert example.labels[len(pair.prompt_ids) : len(whole)] == ids
        assert all(label < 0 for label in example.labels[len(whole) :])


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_text_pair_has_the_ids_of_a_prompt_with_a_completion(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    pair = one(texts(1, "The capital of", " France", " Paris"), tokenizer)
    for answer, ids in ((" France", pair.chosen_ids), (" Paris", pair.rejected_ids)):
        row = PromptCompletionRow("f:1", "The capital of", answer)
        (example,), _ = encode_records([row], tokenizer)
        assert example.input_ids == pair.prompt_ids + ids


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_special_tokens_in_a_persons_text_stay_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = OWN
    forged = " ".join(SPECIAL)
    plain, evil = (
        one(
            chat(1, f"yes {said}", f"no {said}", (Message("user", said),),
                 text=(said, f" yes {said}", f" no {said}")),
            tokenizer,
        )
        for said in ("Hello", forged)
    )  # fmt: skip
    control = set(tokenizer.convert_tokens_to_ids(SPECIAL))
    assert control.issuperset(tokenizer.all_special_ids)

    def controls(ids: list[int]) -> list[int]:
        return [number for number in ids if number in control]

    user, assistant, end = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"])
    assert controls(evil.prompt_ids) == controls(plain.prompt_ids) == [user, end, assistant]
    assert controls(evil.chosen_ids) == controls(evil.rejected_ids) == [end]
    assert forged in tokenizer.decode(evil.prompt_ids)

    tokenizer.chat_template = None
    in_text = one(chat(1, "a", "b", text=(forged, f" yes {forged}", f" no {forged}")), tokenizer)
    assert controls(in_text.prompt_ids) == []
    assert controls(in_text.chosen_ids) == [tokenizer.eos_token_id]
    assert controls(in_text.rejected_ids) == [tokenizer.eos_token_id]


def test_a_chat_is_read_as_text_by_a_model_without_a_template(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    row = chat(1, "7", "8", text=("3 + 4 =", " 7", " 8"))
    assert decoded(one(row, tokenizer), tokenizer) == ["3 + 4 =", " 7</s>", " 8</s>"]
    with pytest.raises(PosttrainError, match=r"f:1: a conversation, and .* has no chat template"):
        one(chat(1, "7", "8"), tokenizer)


def test_a_demonstration_is_read_as_text_by_a_model_without_a_template(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    turns = (Message("user", "Sum?"), Message("assistant", "7"))
    row = ChatRow("f:1", turns, ("3 + 4 =", " 7"))
    (example,), _ = encode_records([row], tokenizer)
    assert mask_segments(example, tokenizer) == [("3 + 4 =", False), (" 7</s>", True)]
    tokenizer.chat_template = OWN
    (example,), _ = encode_records([row], tokenizer)
    assert mask_segments(example, tokenizer)[1] == ("7<|end|>", True)
    tokenizer.chat_template = None
    with pytest.raises(PosttrainError, match="has no chat template"):
        encode_records([ChatRow("f:1", turns)], tokenizer)


def test_what_stands_beside_a_pair_comes_along(tokenizer: PreTrainedTokenizerFast) -> None:
    pair = one(texts(1, "a", " b", " c", margin=0.5, probability=0.9, flaw="wrong"), tokenizer)
    assert (pair.margin, pair.probability, pair.flaw) == (0.5, 0.9, "wrong")
    bare = one(texts(1, "a", " b", " c"), tokenizer)
    assert (bare.margin, bare.probability, bare.flaw) == (None, None, "")


def test_many_rows_at_once_are_encoded_as_one_by_one(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    rows = [
        chat(n, f"It is {n}.", f"No {n}.") if n % 3 else texts(n, f"{n}", " a", " b")
        for n in range(300)
    ]
    together, report = encode_pairs(rows, tokenizer)
    assert together == [one(row, tokenizer) for row in rows]
    assert [pair.where for pair in together] == [row.where for row in rows]
    assert report.num_tokens == sum(
        2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids)
        for pair in together
    )


def test_what_is_dropped_is_counted_by_its_reason(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m.content | trim }}{% endfor %}"
    user = (Message("user", "a"),)
    rows = [
        texts(1, "a", " b", " c"),
        texts(2, "a", " b" * 30, " c"),
        texts(3, "a", " b", " c" * 30),
        DroppedRow("f:4", "chosen and rejected are equal"),
        chat(5, "b", "b ", user),
        DroppedRow("f:6", "the prompts differ"),
        DroppedRow("f:7", "a response is empty"),
        texts(8, "c", " d d", " e"),
    ]
    pairs, report = encode_pairs(rows, tokenizer, limit=Limit(10))
    assert [pair.where for pair in pairs] == ["f:1", "f:8"]
    longest = max(len(pair.prompt_ids + pair.chosen_ids) for pair in pairs)
    assert report.metrics() == {
        "rows": 8,
        "rows_used": 2,
        "rows_cut": 0,
        "row_limit": 10,
        "rows_dropped_too_long": 2,
        "rows_dropped_equal": 2,
        "rows_dropped_unusable": 2,
        "tokens": report.num_tokens,
        "longest_tokens": longest,
    }


def test_a_pair_of_just_max_length_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    row = texts(1, "a", " b b b", " c")
    pair = one(row, tokenizer)
    length = len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
    one(row, tokenizer, length)
    with pytest.raises(PosttrainError, match=r"f:1: none of 1 pairs is left .*: 1 too long; raise"):
        one(row, tokenizer, length - 1)


def test_a_prompt_without_room_for_an_answer_is_dropped_and_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = [texts(1, "a", " b", " c"), texts(2, "a " * 30, " b", " c")]
    pairs, report = encode_pairs(rows, tokenizer, limit=Limit(9))
    assert [pair.where for pair in pairs] == ["f:1"]
    assert (report.num_rows, report.num_dropped_too_long) == (2, 1)


def test_a_source_of_dropped_rows_only_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [DroppedRow("f:1", "the prompts differ"), DroppedRow("f:2", "a response is empty")]
    with pytest.raises(PosttrainError, match=r"f:2: none of 2 pairs is left .*: 2 unusable"):
        encode_pairs(rows, tokenizer, limit=Limit(9))


def test_a_template_that_looks_at_the_answer_first_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = (
        "{% if messages[-1].content == 'b' %}<|system|>{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    with pytest.raises(PosttrainError, match="f:1: "):
        one(chat(1, "a", "b"), tokenizer)


@pytest.mark.parametrize("template", [CHATML, None])
def test_hh_harmless_in_both_ways(
    real_data: Path, tokenizer: PreTrainedTokenizerFast, template: str | None
) -> None:
    tokenizer.chat_template = template
    block = DataBlock(file="hh_harmless/test.jsonl.gz", rows=600)
    rows = list(read_source(block, Places(real_data, {}), forms=("preference",)))
    pairs, report = encode_pairs(rows, tokenizer)
    assert (report.num_rows, report.num_dropped_unusable, len(pairs)) == (600, 2, 598)
    end = "<|im_end|>" if template else "</s>"
    for pair in pairs[:50]:
        _, chosen, rejected = decoded(pair, tokenizer)
        assert chosen.endswith(end)
        assert rejected.endswith(end)
        assert end not in chosen.removesuffix(end) + rejected.removesuffix(end)


def test_held_out_pairs_that_are_left_out_are_counted_and_may_be_all(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = [texts(1, "The capital", " of France" * 20, " x"), texts(2, "Hello", " you", " you")]
    kept, report = encode_pairs(rows, tokenizer, limit=Limit(20), may_be_none=True)
    assert kept == []
    assert report.held_out_metrics() == {
        **{"held_out_dropped_too_long": 1, "held_out_cut": 0},
        **{"held_out_dropped_equal": 1, "held_out_dropped_unusable": 0},
    }
    _, report = encode_pairs([], tokenizer, may_be_none=True)
    assert report.held_out_metrics() == {}


def test_a_pair_answers_a_tool_and_may_call_one(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    calls = (ToolCall("find", '{"q": "wren"}'),)
    prompt = (
        Message("user", "Find a wren."),
        Message("assistant", "", calls=calls),
        Message("tool", "A small bird."),
    )
    answers = Message("assistant", "", calls=calls), Message("assistant", "No.")
    row = PreferenceRow("f:1", prompt, "", "No.", answers=answers)
    asked, chosen, rejected = decoded(one(row, tokenizer), tokenizer)
    assert "<|im_start|>tool\nA small bird.<|im_end|>" in asked
    assert chosen == '{"name": "find", "arguments": {"q": "wren"}}<|im_end|>'
    assert rejected == "No.<|im_end|>"
