"""What is pulled out of a response, and that nothing hostile takes long or raises."""

import pytest

from reward import extract


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2 is cut off", "1"),
        (r"a set \boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{never closed", None),
        ("{42}", None),
    ],
)
def test_a_box_is_read_with_the_braces_inside_it(text, content):
    assert extract.boxed(text) == content


def test_the_last_line_after_hashes_is_read_and_a_number_sign_in_running_text_is_not():
    assert extract.after_hashes("#### 1\nno\n####  2,000 \nbye") == "2,000"
    assert extract.after_hashes("see issue #### 5") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("47 + 35 = 82", "82"),
        ("it costs $1,234.50 now", "1234.50"),
        ("the sum of 1,234,567 and 0", "0"),
        ("x = -5", "-5"),
        ("x = \u22125", "-5"),
        ("10-5", "5"),
        ("a half is 1/2.", "1/2"),
        (r"it is \frac{3}{4}", "3/4"),
        ("on 2024/05/06", "06"),
        (".5 of it", ".5"),
        ("about 6.02e23", "6.02e23"),
        ("It has 3 apples.", "3"),
        ("water is H2O", None),
        ("none at all", None),
    ],
)
def test_the_last_number_keeps_sign_decimals_and_fraction(text, number):
    assert extract.last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 82. I checked it 3 times.", "82"),
        ("**Answer:** $7", "7"),
        ("The final answer is: **-1,000**", "-1000"),
        ("the answer is 1. No, the answer is\n2", "2"),
        ("The answer is 40 + 2", None),
        ("The answer is not 5", None),
        ("Answering 5 questions", None),
    ],
)
def test_a_stated_number_follows_the_word_answer_and_is_no_part_of_a_sum(text, number):
    assert extract.stated_number(text) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(c)", "C"),
        ("B) because it is cold", "B"),
        ("The answer is (D).", "D"),
        ("Answer: A. It cannot be B", "A"),
        ("First I thought the answer is B, but the answer is C", "C"),
        (r"hence \boxed{\text{B}}", "B"),
        ("Let us think.\nIt follows.\n**D**", "D"),
        ("Of these only (B) fits", "B"),
        ("Either (A) or (B)", None),
        ("A dog runs", None),
        ("", None),
    ],
)
def test_a_choice_is_read_however_it_is_written(text, letter):
    assert extract.choice_letter(text) == letter


def test_letters_beyond_the_offered_ones_are_no_choice():
    assert extract.choice_letter("The answer is E") is None
    assert extract.choice_letter("The answer is E", letters="ABCDE") == "E"


def test_the_last_code_block_of_the_language_is_returned():
    draft, final = "```python\na = 1\n```\n", "```python\na = 2\n```\n"
    text = f"{draft}better:\n{final}run it:\n```bash\npython a.py\n```\n"
    assert extract.code_block(text, "python") == "a = 2\n"
    assert extract.code_block(text) == "python a.py\n"
    assert extract.code_block(text, "sql") is None


def test_a_code_block_that_defines_the_name_comes_before_one_that_uses_it():
    draft, final = "```python\ndef f(): return 1\n```\n", "```py\ndef f():\n    return 2\n```\n"
    text = f"{draft}better:\n{final}as in:\n```python\nprint(f() == f)\nf_2 = f()\n```\n"
    assert extract.code_block(text, "python", defining="f") == "def f():\n    return 2\n"
    assert extract.code_block(text, "python", defining="g") == "print(f() == f)\nf_2 = f()\n"
    for definition in ("f = max", "f: object = max", "class f:\n    pass", "async def f(): pass"):
        text = f"```{{.python .numbers}}\r\n{definition}\n```\n```\nf() == 1\n```"
        assert extract.code_block(text, "python", defining="f") == f"{definition}\n"


def test_a_code_block_without_a_label_or_without_its_end_counts():
    assert extract.code_block("```\nx = 1\n```", "python") == "x = 1\n"
    assert extract.code_block("Here:\n```python\nx = 1", "python") == "x = 1"
    assert extract.code_block("no `code` here") is None
