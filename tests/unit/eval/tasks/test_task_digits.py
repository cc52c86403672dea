"""Digits to draw: images that no two parts share, judges that know nothing of one another."""

import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import combinations, islice
from statistics import fmean

import pytest

from eval.task import Task
from eval.tasks import load
from eval.tasks.digit_images import (
    INK,
    NUM_PIXELS,
    SIDE,
    flaw_of,
    images,
    read_drawing,
    shift,
    write_drawing,
)
from eval.tasks.digit_judges import TRAINED_ON, read_digit

PARTS = ("train", "validation", "test", "gold")


@cache
def digits() -> Task:
    return load("digits")


def test_every_image_is_in_one_part_and_all_digits_are_in_each():
    numbers = {part: {image.number for image in images(part)} for part in PARTS}
    assert sum(map(len, numbers.values())) == len(set().union(*numbers.values())) == 1797
    assert all(not a & b for a, b in combinations(numbers.values(), 2))
    for part in PARTS:
        assert min(Counter(image.digit for image in images(part)).values()) >= 15


def test_a_drawing_reads_as_it_was_written():
    for image in images("test"):
        text = write_drawing(image.pixels)
        assert flaw_of(text) == ""
        assert read_drawing(text) == image.pixels


@pytest.mark.parametrize("judge", ["verifier", "gold"])
def test_judges_read_what_people_wrote_wherever_it_stands(judge):
    for move in ((0, 0), (1, -1)):
        found = [
            read_digit(judge, shift(image.pixels, *move)) == image.digit for image in images("test")
        ]
        assert fmean(found) > 0.9


def test_judges_share_no_image_with_one_another_nor_with_a_model_that_draws():
    assert len(set(TRAINED_ON.values())) == 2
    assert not {"train", "test"} & set(TRAINED_ON.values())
    wrong = [
        {each.number for each in images("test") if read_digit(judge, each.pixels) != each.digit}
        for judge in TRAINED_ON
    ]
    assert wrong[0] != wrong[1]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "nothing was drawn"),
        ("a" * 63, "63 pixels instead of 64"),
        ("a" * 65, "65 pixels instead of 64"),
        ("a" * 63 + "z", "'z' is no grey level"),
        ("a" * 32 + " " + "a" * 31, "' ' is no grey level"),
    ],
)
def test_what_is_no_drawing_is_wrong_and_says_why(response, reason):
    verdict = digits().verify(response, "3")
    assert (verdict.score, verdict.answer) == (0.0, None)
    assert reason in verdict.reason
    assert digits().gold_score(response, "3") == 0.0
    assert digits().picture(response) is None


def test_what_is_asked_for_must_be_a_digit():
    drawing = write_drawing(images("test")[0].pixels)
    assert digits().verify(drawing, "ten").score is None
    assert digits().gold_score(drawing, "ten") is None


def test_a_shift_moves_ink_and_brings_paper():
    corner = (INK, *[0] * (NUM_PIXELS - 1))
    moved = shift(corner, 1, 2)
    assert moved.index(INK) == 2 * SIDE + 1
    assert sum(moved) == INK
    assert sum(shift(corner, -1, 0)) == 0


def test_documents_are_the_training_images_moved_to_a_side_by_a_pixel_at_most():
    originals = {write_drawing(image.pixels) for image in images("train")}
    still = {document.split()[1] for document in load("digits(shift=0)").documents(0)}
    assert still == originals
    near = {shift(image.pixels, x, 0) for image in images("train") for x in (-1, 0, 1)}
    for document in islice(digits().documents(3), 100):
        digit, drawing = document.split(" ")
        assert (len(digit), len(drawing)) == (1, NUM_PIXELS)
        assert read_drawing(drawing) in near


def test_held_out_documents_are_of_other_images():
    shown = {document for seed in (0, 1) for document in load("digits(shift=0)").documents(seed)}
    assert not shown & set(digits().held_out_documents(0))


def test_the_same_drawing_again_and_again_has_no_diversity_and_peoples_have():
    threes = [write_drawing(image.pixels) for image in images("test") if image.digit == 3]
    (people,) = digits().set_scores(threes, ["3"] * len(threes)).values()
    (copies,) = digits().set_scores([threes[0]] * 5, ["3"] * 5).values()
    assert fmean(share for share in people if share is not None) > 1
    assert list(copies) == [0.0] * 5
    (broken,) = digits().set_scores([*threes, "no drawing"], ["3"] * (len(threes) + 1)).values()
    assert broken[-1] is None
    assert list(broken[:-1]) == list(people)


def test_a_picture_is_ink_on_paper():
    picture = digits().picture(f" {'a' * 8}{'q' * 8}{'i' * 48}\n")
    assert picture is not None
    assert [len(row) for row in picture] == [SIDE] * SIDE
    assert [picture[row][0] for row in range(3)] == [1.0, 0.0, 0.5]


def test_nobody_else_pays_for_scikit_learn():
    code = (
        "import sys; from eval.tasks import BUILT_IN, load\n"
        "tasks = [load(name) for name in BUILT_IN]\n"
        "[next(task.examples('test')) for task in tasks if task.name != 'digits']\n"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
