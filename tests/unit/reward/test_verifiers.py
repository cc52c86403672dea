"""Right answers in every spelling are right; wrong, missing and hostile ones are not."""

import pytest

from reward.verifiers.choice import choice
from reward.verifiers.numeric import numeric
from reward.verifiers.text import find_names, leading_sentence, text


@pytest.mark.parametrize(
    "response",
    [
        "82",
        "47 + 35 = 82",
        "The answer is 82. I used 2 steps.",
        "It took 3 steps.\n#### 82",
        r"\boxed{82} after 3 steps",
        r"\boxed{82 \text{ cm}^2}",
        "82.0",
        "164/2",
        "He has 82 apples.",
        "#### Step 1\nAdd.\n#### Step 2\nThe answer is 82",
    ],
)
def test_a_right_number_is_found_wherever_it_is_marked(response):
    assert numeric(response, "82").score == 1.0


@pytest.mark.parametrize(
    "response",
    ["", "eighty-two", "-82", "The answer is 83, not 82", "82 + 1", "8 2", "82/0", "9" * 10_000],
)
def test_a_wrong_number_or_none_scores_zero(response):
    assert numeric(response, "82").score == 0.0


def test_numbers_are_compared_exactly_unless_a_tolerance_is_given():
    assert numeric("0.3", "0.30").score == 1.0
    assert numeric("0.3333", "1/3").score == 0.0
    assert numeric("0.3333", "1/3", tolerance=1e-3).score == 1.0
    assert numeric("1,234", "$1234").score == 1.0


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        (r"\boxed{2\frac{1}{2}}", "5/2"),
        ("It takes 2 1/2 cups", "2.5"),
        (r"$\frac{-3}{4}$", "-0.75"),
        (r"-\frac34", "-3/4"),
        (r"$3 \times 10^{5}$", "300000"),
        ("3 x 10^-2", "0.03"),
        (r"3 \cdot 10^5", "3e5"),
        (r"1\,000", "1000"),
        ("1\u202f000\u202f000", "1,000,000"),
        ("25%", "0.25"),
        ("25 percent", "1/4"),
        ("25", "25%"),
        ("0.25", r"25\%"),
        ("5000 m", "5 km"),
        ("5", "5 km"),
        (r"\boxed{5000 \text{ m}}", "5 km"),
        ("It takes 3 hours to go 5 km", "5 km"),
        ("90 minutes", "1.5 hours"),
        ("It is 5 cm^2", "5"),
        ("5 apples", "5"),
    ],
)
def test_a_number_may_be_written_in_any_way(response, reference):
    assert numeric(response, reference).score == 1.0


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("0.25%", "25%"),
        ("25%", "25.5"),
        ("5 m", "5 km"),
        ("5 kg", "5 km"),
        ("2 1/2", "1/2"),
        (r"3\frac{5}{2}", "5/2"),
        ("10^5", "5"),
        ("1/0 km", "5 km"),
        ("3 x 10^5", "10"),
    ],
)
def test_another_number_is_wrong_however_it_is_written(response, reference):
    assert numeric(response, reference).score == 0.0


def test_a_reference_that_is_no_number_is_not_gradable():
    assert numeric("5", "five").score is None
    assert numeric("5", "1/0").score is None


def test_the_verdict_names_the_answer_and_the_reason():
    verdict = numeric("The answer is 83.", "82")
    assert verdict.answer == "83"
    assert "82" in verdict.reason


def test_a_choice_is_compared_whatever_its_case():
    assert choice("I pick nothing but (b)\nb", "B").score == 1.0
    assert choice("The answer is C.", "(B)").score == 0.0
    assert choice("no idea", "B").score == 0.0
    assert choice("B", "E").score is None


OPTIONS = "B\nA. red\nB. light blue\nC. blue\nD. 3.5"


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("light blue", "B"),
        ("The answer is light blue.", "B"),
        (r"\boxed{\text{light blue}}", "B"),
        ("Is it red or blue?\nIt is light blue", "B"),
        ("(b)", "B"),
        ("blue", "C"),
        ("3.5", "D"),
        ("not light blue", None),
        ("red or light blue", "AB"),
        ("no idea", None),
    ],
)
def test_a_choice_may_be_made_by_an_options_text(response, letter):
    verdict = choice(response, OPTIONS)
    assert (verdict.answer, verdict.score) == (letter, float(letter == "B"))


def test_options_that_differ_in_marks_only_are_chosen_by_letter():
    listed = "A\nA. C++\nB. C#"
    assert choice("C++", listed).score == 0.0
    assert choice("A", listed).score == 1.0


def test_text_differs_neither_by_case_nor_by_punctuation_nor_by_articles():
    assert text("the  Eiffel-Tower!", "Eiffel tower").score == 1.0
    assert text("The capital of Peru is Lima.", "Lima").score == 0.0
    assert text("", "Lima").score == 0.0
    assert text("Cafe\u0301", "caf\u00e9").score == 1.0
    assert text("Ze\u0301" + "\u0316\u0301" * 50, "z\u00e9").score == 1.0
    assert text("Lima", "...").score is None


def test_within_the_leading_sentence_only_its_end_counts():
    assert text("The capital is Lima. Not Quito.", "Lima", within="leading_sentence").score == 1.0
    assert text("Lima", "Lima", within="leading_sentence").score == 1.0
    assert text("Not Quito. Lima.", "Lima", within="leading_sentence").score == 0.0
    assert text("It is Kalima.", "Lima", within="leading_sentence").score == 0.0
    for denial in ("It is not Lima.", "It isn't Lima", "It is never Lima", "Anything but Lima."):
        assert text(denial, "Lima", within="leading_sentence").score == 0.0
    for denial in ("It isn't actually Lima.", "It could never have been Lima", "It can't be Lima"):
        assert text(denial, "Lima", within="leading_sentence").score == 0.0
    assert text("It is John T Lima", "Lima", within="leading_sentence").score == 1.0
    assert text("It is not Quito but actually Lima", "Lima", within="leading_sentence").score == 1.0
    assert text("It is not Not Lima.", "Not Lima", within="leading_sentence").score == 0.0
    assert text("Spinoza's is Not Lima.", "Not Lima", within="leading_sentence").score == 1.0


def test_a_decimal_point_does_not_end_a_sentence():
    assert leading_sentence("Pi is 3.14. Really.") == "Pi is 3.14"


def test_names_are_whole_words_and_the_longest_one_counts():
    countries = ("Guinea", "Papua New Guinea", "Mali")
    assert find_names("papua new guinea and Mali; Mali!", countries) == ("Papua New Guinea", "Mali")
    assert find_names("Somalia", countries) == ()
    assert find_names("It is not Mali but Guinea", countries) == ("Guinea",)


def test_names_that_are_empty_are_refused():
    with pytest.raises(ValueError, match="names"):
        find_names("x", ["the"])
