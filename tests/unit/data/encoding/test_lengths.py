"""What becomes of rows that are too long, and how it is counted and told."""

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from pipeline.data.encoding.examples import IGNORED, encode_records
from pipeline.data.encoding.lengths import Limit, describe_rows, is_worth_a_warning
from pipeline.data.encoding.pairs import EncodedPair, encode_pairs
from pipeline.data.encoding.prompts import encode_prompts
from pipeline.data.reading.formats import ChatRow, Message, PreferenceRow, PromptRow, TextRow
from pipeline.errors import PosttrainError
from tests.unit.data.small_tokenizers import CHATML, byte_level_tokenizer

if TYPE_CHECKING:
    from pipeline.config.field_types import TruncationSide

TALK = (Message("system", "Be kind."), Message("user", "Tell me a story of a dog."))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose chat template begins with BOS."""
    found = byte_level_tokenizer()
    found.chat_template = "{{ bos_token }}" + CHATML
    return found


def story(number: int, words: int) -> ChatRow:
    return ChatRow(f"f:{number}", (*TALK, Message("assistant", "A dog ran. " * words)))


def encoded(tokenizer: PreTrainedTokenizerFast, limit: Limit, *rows: ChatRow) -> Any:
    return encode_records(rows, tokenizer, limit=limit)


def test_a_chat_is_cut_at_the_end_of_its_response_which_is_not_taught_to_stop(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    (whole,), _ = encode_records([story(1, 40)], tokenizer)
    (cut,), report = encoded(tokenizer, Limit(len(whole.input_ids) // 2, "truncate"), story(1, 40))
    assert cut.input_ids == whole.input_ids[: len(whole.input_ids) // 2]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in whole.labels
    assert end not in cut.labels
    assert cut.labels[-1] == cut.input_ids[-1]
    assert (report.num_cut, report.num_dropped_too_long) == (1, 0)


def test_cut_on_the_left_a_chat_keeps_the_end_of_its_response_and_bos(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    (whole,), _ = encode_records([story(1, 4)], tokenizer)
    limit = Limit(len(whole.input_ids) - 7, "truncate", "left")
    (cut,), report = encoded(tokenizer, limit, story(1, 4))
    assert len(cut.input_ids) == limit.max_length
    assert cut.input_ids[0] == tokenizer.bos_token_id
    assert cut.input_ids[1:] == whole.input_ids[8:]
    assert [each for each in cut.labels if each != IGNORED] == [
        each for each in whole.labels if each != IGNORED
    ]
    assert report.num_cut == 1


def test_a_text_is_cut_where_it_is_said(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [TextRow("f:1", "A dog ran. " * 20)]
    (whole,), _ = encode_records(rows, tokenizer)
    ends: dict[TruncationSide, list[int]] = {
        "right": whole.input_ids[:9],
        "left": whole.input_ids[-9:],
    }
    for side, expected in ends.items():
        (kept,), _ = encode_records(rows, tokenizer, limit=Limit(9, "truncate", side))
        assert kept.input_ids == expected


def test_a_row_that_is_too_long_can_be_an_error_that_names_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(PosttrainError, match=r"f:2: \d+ tokens, longer than 90; shorten it, raise"):
        encoded(tokenizer, Limit(90, "error"), story(1, 1), story(2, 40))


PROMPT, CHOSEN, REJECTED = "What is a dog? " * 4, "A dog is an animal. " * 5, "I do not know. " * 3


def pair(tokenizer: PreTrainedTokenizerFast, limit: Limit | None = None) -> EncodedPair:
    row = PreferenceRow("f:1", (Message("user", PROMPT),), CHOSEN, REJECTED)
    (found,), _ = encode_pairs([row], tokenizer, limit=limit or Limit(None))
    return found


@given(left_out=st.integers(1, 60))
def test_the_responses_of_a_pair_are_cut_to_what_the_prompt_leaves(left_out: int) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHATML
    whole = pair(tokenizer)
    limit = Limit(len(whole.prompt_ids) + len(whole.chosen_ids) - left_out, "truncate")
    found = pair(tokenizer, limit)
    assert found.prompt_ids == whole.prompt_ids
    room = limit.max_length - len(whole.prompt_ids)  # pyright: ignore[reportOptionalOperand]
    assert found.chosen_ids == whole.chosen_ids[:room]
    assert found.rejected_ids == whole.rejected_ids[:room]


@given(left_out=st.integers(1, 400))
def test_on_the_left_the_prompt_of_a_pair_gives_way_first(left_out: int) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHATML
    whole = pair(tokenizer)
    longest = len(whole.prompt_ids) + len(whole.chosen_ids)
    limit = Limit(max(3, longest - left_out), "truncate", "left")
    found = pair(tokenizer, limit)
    assert whole.prompt_ids[-len(found.prompt_ids) :] == found.prompt_ids
    assert len(found.prompt_ids) + len(found.chosen_ids) == limit.max_length
    if left_out < len(whole.prompt_ids):
        assert (found.chosen_ids, found.rejected_ids) == (whole.chosen_ids, whole.rejected_ids)


def test_a_pair_that_is_cut_to_two_equal_responses_is_dropped_as_such(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    same = "The same. " * 20
    rows = [
        PreferenceRow("f:1", TALK[1:], f"{same}yes", f"{same}no"),
        PreferenceRow("f:2", TALK[1:], "yes", "no"),
    ]
    kept, report = encode_pairs(rows, tokenizer, limit=Limit(90, "truncate"))
    assert [each.where for each in kept] == ["f:2"]
    assert (report.num_dropped_equal, report.num_dropped_too_long, report.num_cut) == (1, 0, 0)


def test_a_prompt_is_cut_at_its_beginning_so_that_the_assistant_is_still_asked(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    long = PromptRow("f:1", (Message("user", "Please. " * 60),), None, {})
    (whole,), _ = encode_prompts([long], tokenizer, form="chat")
    limit = Limit(40, "truncate", "left")
    (cut,), report = encode_prompts([long], tokenizer, limit=limit, form="chat")
    assert cut.ids == [tokenizer.bos_token_id, *whole.ids[-39:]]
    assert tokenizer.decode(cut.ids).endswith("<|im_start|>assistant\n")
    assert report.metrics()["prompts_cut"] == 1


def test_that_most_rows_are_dropped_is_an_error_and_half_of_them_is_none(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    limit = Limit(90)
    rows = [story(number, 1 if number < 2 else 40) for number in range(4)]
    _, report = encoded(tokenizer, limit, *rows)
    report.refuse("sft")
    _, report = encoded(tokenizer, limit, *rows, story(4, 40))
    told = r"sft: 3 of 5 rows are longer than 90 tokens; raise `max_length` \(the longest has \d+\)"
    with pytest.raises(PosttrainError, match=f"{told}, or write `too_long: truncate`"):
        report.refuse("sft")
    _, report = encoded(tokenizer, Limit(90, "truncate"), *rows, story(4, 40))
    report.refuse("sft")


ROWS = {"rows": 902, "rows_used": 902, "row_limit": 512}


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        ({"steps": 3}, ""),
        (ROWS, "902 of 902 rows trained"),
        (
            {**ROWS, "rows_used": 529, "rows_dropped_too_long": 373},
            "529 of 902 rows trained: 373 longer than 512",
        ),
        (
            {**ROWS, "rows_used": 899, "rows_cut": 370, "rows_dropped_too_long": 3},
            "899 of 902 rows trained, 370 of them cut to 512 tokens: 3 longer than 512",
        ),
        (
            {**ROWS, "rows_used": 900, "rows_dropped_equal": 2, "rows_left_out_per_epoch": 4},
            "900 of 902 rows trained: 2 whose two responses are equal; 4 in each epoch fill no "
            "batch",
        ),
        (
            {"prompts": 9, "prompts_used": 5, "prompts_dropped_too_long": 4, "row_limit": 20},
            "5 of 9 prompts used: 4 longer than 20",
        ),
        (
            {**ROWS, "held_out_dropped_too_long": 2, "held_out_cut": 1},
            "902 of 902 rows trained; of the held-out ones 2 longer than 512, 1 cut to 512 tokens",
        ),
    ],
)
def test_what_became_of_the_rows_is_said_in_a_line(metrics: dict[str, int], line: str) -> None:
    assert describe_rows(metrics) == line


@pytest.mark.parametrize(
    ("lost", "is_warned"),
    [
        ({"rows_used": 892}, True),
        ({"rows_used": 893}, False),
        ({"rows_cut": 10}, True),
        ({"rows_cut": 9}, False),
    ],
)
def test_more_than_one_row_in_a_hundred_is_worth_a_warning(
    lost: dict[str, int], is_warned: bool
) -> None:
    assert is_worth_a_warning({**ROWS, **lost}) == is_warned
