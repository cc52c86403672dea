"""Shares of what repeats, by hand and by a plain loop."""

import random

from eval.statistics.sameness import distinct_share, repeated_share, shared_share


def test_runs_that_stood_before_are_counted_as_a_plain_loop_counts_them() -> None:
    generator = random.Random(0)
    for _ in range(50):
        tokens = [generator.randrange(3) for _ in range(generator.randrange(4, 40))]
        seen: set[tuple[int, ...]] = set()
        again = 0
        for start in range(len(tokens) - 3):
            run = tuple(tokens[start : start + 4])
            again += run in seen
            seen.add(run)
        assert repeated_share(tokens) == again / (len(tokens) - 3)


def test_a_text_of_one_word_repeats_and_one_of_different_words_does_not() -> None:
    assert repeated_share([7] * 103) == 0.99
    assert repeated_share(range(100)) == 0
    assert repeated_share([1, 2, 3]) is None


def test_answers_are_shared_where_something_else_was_answered_the_same() -> None:
    answers = ["yes", "yes", "no", "maybe"]
    assert shared_share(answers, ["a", "b", "c", "d"]) == 0.5
    assert shared_share(answers, ["a", "a", "c", "d"]) == 0  # two that one answer may be right for


def test_a_group_of_one_answer_has_none_that_differ() -> None:
    assert distinct_share([["x", "x", "x"], ["x", "y", "z"]]) == 0.5
    assert distinct_share([["x"], []]) is None
