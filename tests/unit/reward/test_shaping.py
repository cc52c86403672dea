import time
from pathlib import Path

import pytest

from pipeline.config.user_code import load_object
from reward.shaping import (
    format_reward,
    length_penalty,
    repetition,
    repetition_penalty,
    thinking,
)


def test_length_costs_nothing_up_to_the_free_words_and_one_at_the_limit() -> None:
    penalty = length_penalty(free_words=2, limit_words=6)
    texts = ["", "a b", "a b c", "a b c d", "a b c d e f", "a b c d e f g h"]
    assert penalty(texts) == [0, 0, -0.25, -0.5, -1, -1]


def test_repetition_is_the_share_of_runs_that_stood_before() -> None:
    penalty = repetition_penalty(words=2)
    # a-b b-a a-b: one of three stood before. a-b b-c: none. One word: no run at all.
    assert penalty(["a b A b", "a b c", "a", ""]) == pytest.approx([-1 / 3, 0, 0, 0])


def test_a_loop_costs_nearly_one() -> None:
    assert repetition(["and so on " * 100])[0] == pytest.approx(-(1 - 3 / 298))


def test_a_format_must_match_the_whole_text_over_line_breaks() -> None:
    is_answer = format_reward(r".*Answer: \d+")
    assert is_answer(["so\nAnswer: 7\n", "Answer: 7 or 8", "7"]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>3 + 4\nis 7</think>\nIt is 7.", 1),
        ("<think></think>7", 1),
        ("It is 7.", 0),
        ("<think>3 + 4</think> \n", 0),
        ("<think>3 + 4 It is 7.", 0),
        ("First <think>3 + 4</think> 7", 0),
        ("<think>3<think>4</think>7", 0),
        ("<think>3</think>7<think>8", 0),
    ],
)
def test_thinking_is_one_block_and_then_an_answer(text: str, expected: float) -> None:
    assert thinking([text]) == [expected]


def test_thinking_reads_a_long_text_in_one_pass() -> None:
    begin = time.process_time()
    texts = ["<think>" + "<" * 100_000, "<think></think>" + "x " * 50_000 + "<think>"]
    assert thinking(texts) == [0, 0]
    assert time.process_time() - begin < 2


def test_messages_count_like_their_text() -> None:
    messages = [[{"role": "assistant", "content": "a b a b a b"}]]
    for reward in (repetition, length_penalty(free_words=0, limit_words=10), thinking):
        assert reward(messages) == reward(["a b a b a b"])


def test_the_ready_made_ones_are_named_in_recipes_and_take_what_trainers_hand_over(
    tmp_path: Path,
) -> None:
    for name in ("length", "repetition", "thinking"):
        reward = load_object(f"reward.shaping:{name}", tmp_path)
        found = reward(
            prompts=["p"],
            completions=["a b c"],
            completion_ids=[[1]],
            words=["a column of the data"],
            trainer_state=None,
        )
        assert found == [0]


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValueError, match="9 free words of 9 leave nothing"):
        length_penalty(free_words=9, limit_words=9)
    with pytest.raises(ValueError, match="a run of 0 words"):
        repetition_penalty(words=0)
    with pytest.raises(ValueError, match="is not a regular expression"):
        format_reward("(")
