"""The physics task: steps against the laws, families held out whole, units, settings."""

import re
from collections import Counter

import pytest

from eval.task import Example, Split
from eval.tasks.physics import Physics

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Physics()
STEP = re.compile(r"(\w+ = \w+ [-+*/] \w+) = (\d+) ([-+*/]) (\d+) = (\d+)\.")
LAWS = {
    "distance = speed * time",
    "time = distance / speed",
    "speed = distance / time",
    "speed = 10 * time",
    "time = speed / 10",
    "gain = 10 * time",
    "speed = start + gain",
    "gain = speed - start",
    "time = gain / 10",
    "start = speed - gain",
    "square = time * time",
    "depth = 5 * square",
    "moment = weight * arm",
    "force = moment / distance",
    "distance = moment / force",
}


def examples() -> list[Example]:
    return [each for split in SPLITS for each in TASK.examples(split)]


def numbers(text: str) -> list[int]:
    return sorted(map(int, re.findall(r"\d+", text)))


def test_every_step_is_a_law_rightly_calculated_from_what_is_known():
    seen: set[str] = set()
    for example in examples():
        known = set(numbers(example.prompt)) | {5, 10}
        steps = STEP.findall(example.response)
        for law, left, sign, right, result in steps:
            seen.add(law)
            one, other, is_said = int(left), int(right), int(result)
            assert {one, other} <= known, example
            match sign:
                case "+":
                    assert one + other == is_said
                case "-":
                    assert one - other == is_said
                case "*":
                    assert one * other == is_said
                case _:
                    assert one == is_said * other
            known.add(is_said)
        assert steps[-1][-1] == example.reference
    assert seen == LAWS


def test_the_unit_is_that_of_the_quantity():
    units = {
        "distance": "m",
        "depth": "m",
        "time": "s",
        "speed": "m/s",
        "start": "m/s",
        "force": "N",
    }
    for example in examples():
        quantity = STEP.findall(example.response)[-1][0].split()[0]
        assert example.response.endswith(f"The answer is {example.reference} {units[quantity]}.")
        assert example.continuation == f" {example.reference} {units[quantity]}"


def situation(question: str, answer: str) -> tuple[str, tuple[int, ...]]:
    """All numbers of a question and its answer, whichever of them is asked for, and the law."""
    if re.search(r"\d N", question):
        law = "lever"
    else:
        law = "fall" if re.search(r"fall|drop|thrown", question) else "motion"
    return law, tuple(numbers(f"{question} {answer}"))


def test_no_training_text_puts_a_law_to_the_numbers_of_a_test_item():
    tested = {situation(each.prompt, each.reference) for each in TASK.examples("test")}
    trained = {situation(each.prompt, each.reference) for each in TASK.examples("train")}
    for seed in (0, 1):
        for text in (text for document in TASK.documents(seed) for text in document.split("\n\n")):
            title, _, worked = text.partition("\n")
            if "The answer is" in worked:
                answer = worked.rpartition("The answer is")[2]
                trained.add(situation(title, answer))
            else:
                trained |= {
                    situation(line, "") for line in text.split("\n") if " a" in line.lower()
                }
    assert len(tested) > 80
    assert len(trained) > 120
    assert not tested & trained


def test_tables_hold_every_product_and_quotient_that_a_test_needs():
    text = "\n".join(TASK.documents(0))
    for example in TASK.examples("test"):
        for _, left, sign, right, result in STEP.findall(example.response):
            assert f"\n{left} {sign} {right} = {result}\n" in f"\n{text}\n", example


def test_each_law_has_its_share_of_the_first_items():
    groups = Counter(each.group for each in TASK.test_items(200))
    assert set(groups) == {"motion", "fall", "lever"}
    assert min(groups.values()) >= 40


def test_the_final_number_counts_whatever_its_unit():
    verify = TASK.verify
    assert verify("distance = speed * time = 6 * 7 = 42. The answer is 42 m.", "42").score == 1.0
    assert verify("42 m/s", "42").score == 1.0
    assert verify("The answer is 4.2 m.", "42").score == 0.0


@pytest.mark.parametrize("max_number", [12, 25])
def test_every_setting_has_items_enough(max_number):
    task = Physics(max_number)
    assert len(task.test_items(1_000)) >= 220
    assert max(max(numbers(each.id)) for each in task.examples("test")) >= 7 * max_number


def test_the_greatest_number_is_checked():
    with pytest.raises(ValueError, match="max_number is 12 to 25"):
        Physics(9)
