"""Sums of many digits: every total is right, no twin of a test item is ever added up."""

import re

import pytest

from eval.task import STEP_BY_STEP
from eval.tasks import load
from eval.tasks.running_sums import RunningSums

TASK = RunningSums()
LINE = re.compile(r"(Sum|Add) ((?:[a-k]\d )+)(?:=|:)(.*)")


def test_every_line_of_a_document_is_right_and_none_adds_a_twin_of_a_test_item_up():
    tested = {example.id for example in TASK.examples("test")}
    assert len(tested) == 1_500
    seen: set[str] = set()
    lengths: set[int] = set()
    for text in TASK.documents(0):
        matches = [LINE.fullmatch(line) for line in text.split("\n")]
        assert all(matches), text
        found = [match for match in matches if match]
        assert len({match[1] for match in found}) == 1, text  # one style a document
        for match in found:
            pairs = match[2].split()
            digits = [int(pair[1]) for pair in pairs]
            totals = [sum(digits[: number + 1]) for number in range(len(digits))]
            steps = " ".join(f"{p} {t:02}" for p, t in zip(pairs, totals, strict=True))
            expected = f" {sum(digits)}" if match[1] == "Sum" else f" {steps} = {sum(digits)}"
            assert match[3] == expected, text
            seen.add(" ".join(map(str, sorted(digits))))
            lengths.add(len(digits))
    assert len(seen) > 3_000
    assert not seen & tested
    assert lengths == set(range(2, 10))  # short ones, too, which are never asked


def test_most_demonstrations_without_the_cue_say_only_the_result():
    shown = list(TASK.demonstrations())
    plain = [each for each in shown if STEP_BY_STEP not in each.prompt]
    assert 0.4 < len(plain) / len(shown) < 0.6
    direct = [each for each in plain if each.response == each.reference]
    assert 0.65 < len(direct) / len(plain) < 0.85
    assert all("=" in each.response for each in shown if STEP_BY_STEP in each.prompt)


def test_questions_name_the_digits_as_documents_do_up_to_the_token_after_the_last():
    for example in TASK.test_items(30):
        assert example.worked_document.removeprefix("Add ") in example.prompt
    assert len({example.prompt.split(" : ")[1] for example in TASK.test_items(30)}) == 3


@pytest.mark.parametrize(("fewest", "most"), [(5, 9), (6, 7), (6, 12), (9, 6)])
def test_lengths_that_leave_too_few_sums_are_refused(fewest, most):
    with pytest.raises(ValueError, match="fewest is at least 6"):
        load(f"running_sums(fewest={fewest}, most={most})")


def test_every_length_has_its_share_of_the_first_items():
    task = load("running_sums(fewest=8, most=11)")
    assert [each.group for each in task.test_items(8)] == ["8", "9", "10", "11"] * 2
