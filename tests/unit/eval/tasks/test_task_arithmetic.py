"""Arithmetic: no twin of a test item is calculated anywhere, and every written step is right."""

import re
from functools import cache

import pytest

from eval.tasks.arithmetic import Arithmetic, Problem

SEEDS = (0, 1)
TASK = Arithmetic()


@cache
def all_documents() -> str:
    return "\n\n".join(text for seed in SEEDS for text in TASK.documents(seed))


def problems_in(text: str) -> set[Problem]:
    """Every calculation that the text writes with a sign or in words, steps of a longer one too."""
    signs = {"plus": "+", "minus": "-", "times": "*"}
    found = set(re.findall(r"(\d+)(?= (\+|-|\*|plus|minus|times) (\d+)(?!\d))", text))
    return {Problem(int(left), signs.get(sign, sign), int(right)) for left, sign, right in found}


@pytest.mark.parametrize("max_digits", [2, 3])
def test_no_training_text_of_arithmetic_calculates_a_twin_of_a_test_item(max_digits):
    arithmetic = Arithmetic(max_digits)
    test_ids = {example.id for example in arithmetic.examples("test")}
    seeds = SEEDS if max_digits == 2 else SEEDS[:1]
    texts = [text for seed in seeds for text in arithmetic.documents(seed)]
    texts += [example.prompt + "\n" + example.response for example in arithmetic.demonstrations()]
    texts += [pair.rejected for pair in arithmetic.preference_pairs("train")]
    found = problems_in("\n".join(dict.fromkeys(texts)))
    assert len(found) > 1_000
    assert not {problem.family for problem in found} & test_ids


def test_no_story_of_arithmetic_tells_a_twin_of_a_test_item():
    test_ids = {example.id for example in TASK.examples("test")}
    stories = [line for line in all_documents().split("\n") if ". " in line]
    stories = [line for line in stories if "=" not in line]  # worked ones are read elsewhere
    assert len(stories) > 300
    for line in stories:
        one, other, result = sorted(map(int, re.findall(r"\d+", line)))
        sign = "*" if one * other == result and one + other != result else "+"
        assert Problem(one, sign, other).answer == result, line
        assert Problem(one, sign, other).family not in test_ids, line


def test_every_equation_in_a_document_is_right():
    equations = re.findall(r"(?<![\d+*-] )(?<!\d)(\d+) ([+*-]) (\d+) = (\d+)", all_documents())
    assert len(equations) > 3_000
    for left, sign, right, result in equations:
        assert Problem(int(left), sign, int(right)).answer == int(result)


def test_every_column_with_a_carry_is_right():
    columns = re.findall(r": (\d+) ([+*-]) (\d+) ([+-]) (\d) = (\d+)\.", all_documents())
    assert len(columns) > 500
    for upper, sign, lower, carry_sign, carry, total in columns:
        before_carry = Problem(int(upper), sign, int(lower)).answer
        assert Problem(before_carry, carry_sign, int(carry)).answer == int(total)


def test_three_digits_are_worked_out_in_three_right_columns():
    arithmetic = Arithmetic(3)
    long = [e for e in arithmetic.examples("validation") if "Hundreds:" in e.response]
    assert len(long) > 500
    for example in long:
        assert arithmetic.verify(example.response, example.reference).score == 1.0
        ones, tens, hundreds = re.findall(r"= (\d+)\. ", example.response)
        assert f"{hundreds}{tens[-1]}{ones[-1]}".lstrip("0") == example.reference, example


def test_most_statements_of_arithmetic_come_without_steps():
    lines = all_documents().split("\n")
    worked = [line for line in lines if "Ones:" in line]
    assert 0 < len(worked) < len(lines) / 3


def test_twins_share_an_id():
    family = {
        Problem(47, "+", 35), Problem(35, "+", 47), Problem(82, "-", 35), Problem(82, "-", 47),
    }  # fmt: skip
    assert {problem.family for problem in family} == {"35 + 47"}
    assert Problem(23, "*", 4).family == Problem(4, "*", 23).family


def test_a_response_of_arithmetic_is_short():
    """Every word, sign and single digit counted as a token, as a tokenizer of few merges has it."""
    longest = max(
        len(re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", example.response))
        for example in TASK.examples("train")
    )
    assert longest <= 60


def test_the_number_of_digits_is_checked():
    with pytest.raises(ValueError, match="max_digits"):
        Arithmetic(4)
