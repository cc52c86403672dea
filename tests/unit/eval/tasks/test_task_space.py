"""The space task: walks and rows against independent ones, the verifier, what is held out."""

import re
from collections import Counter
from functools import cache
from itertools import combinations, permutations

import pytest

from eval.task import Example, Split
from eval.tasks.space import SIZE, THINGS, Space

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Space(max_steps=4)
TURNS = {"north": 1j, "south": -1j, "east": 1, "west": -1}
MOVE = re.compile(r"(\d) (north|south|east|west)")


@cache
def examples(split: Split) -> tuple[Example, ...]:
    return tuple(TASK.examples(split))


def in_group(group: str) -> list[Example]:
    found = [each for split in SPLITS for each in examples(split) if group in each.group]
    assert len(found) > 500
    return found


def walked(text: str) -> list[complex]:
    """The start that the text tells of, and the place after each move, as east + north * i."""
    east, north = re.findall(r"\d", text)[:2]
    places = [complex(int(east), int(north))]
    for length, direction in MOVE.findall(text):
        places.append(places[-1] + int(length) * TURNS[direction])
    return places


def test_every_walk_ends_where_complex_numbers_say():
    for example in in_group("walk"):
        told = walked(example.prompt)
        assert len(told) == int(example.group[-1]) + 1
        said = [complex(int(x), int(y)) for x, y in re.findall(r": (\d) (\d)\.", example.response)]
        assert said == told[1:], example
        assert example.reference == f"{said[-1].real:.0f} {said[-1].imag:.0f}"
        assert all(0 <= part < SIZE for place in told for part in (place.real, place.imag))


def test_every_row_is_the_only_order_that_fits_what_is_told():
    for example in in_group("order"):
        text = example.prompt.lower()
        told = re.findall(r"the (\w+) is (left|right) of the (\w+)", text)[:2]
        things = {thing for one, _, other in told for thing in (one, other)}
        pairs = [(a, b) if side == "left" else (b, a) for a, side, b in told]
        (row,) = [
            order
            for order in permutations(sorted(things))
            if all(order.index(a) < order.index(b) for a, b in pairs)
        ]
        assert f"From left to right: {', '.join(row)}." in example.response
        asked = re.findall(r"the (\w+),? left or right of the (\w+)\?", text)
        asked += [(a, b) for b, a in re.findall(r"side of the (\w+) is the (\w+)\?", text)]
        ((one, other),) = asked
        assert example.reference == ("left" if row.index(one) < row.index(other) else "right")


def twins_inside(text: str) -> set[tuple[complex, tuple[tuple[str, str], ...]]]:
    """Every walk of two and more moves inside the one that the text tells of, moves sorted."""
    places, moves = walked(text), MOVE.findall(text)
    return {
        (places[first], tuple(sorted(moves[first:end])))
        for first, end in combinations(range(len(places)), 2)
        if end - first >= 2
    }


def test_no_training_text_walks_a_twin_of_a_test_walk():
    items = [each.prompt for each in examples("test") if "walk" in each.group]
    tested = {max(twins_inside(prompt), key=lambda walk: len(walk[1])) for prompt in items}
    texts = [each.prompt for split in SPLITS[:2] for each in examples(split)]
    documents = [text for seed in (0, 1) for text in TASK.documents(seed)]
    # Titles and statements; the lines of steps under a title tell the same walk once more.
    texts += [line for text in documents for line in text.split("\n") if "answer" not in line]
    walks = [text for text in dict.fromkeys(texts) if len(MOVE.findall(text)) > 1]
    trained = set().union(*map(twins_inside, walks))
    assert len(tested) == 360
    assert len(trained) > 3_000
    assert not trained & tested


def test_no_three_things_of_a_test_row_stand_in_a_training_row():
    def threes(split: Split) -> set[frozenset[str]]:
        rows = [each for each in examples(split) if each.group == "order"]
        return {frozenset(row.id.split()[1:]) for row in rows}

    assert set().union(*threes("train")) == set(THINGS)
    assert not threes("train") & threes("test")


def test_test_rows_are_balanced():
    counts = Counter(each.reference for each in examples("test") if each.group == "order")
    assert counts["left"] == counts["right"] == 60


def test_exactly_one_place_or_side_counts():
    verify = TASK.verify
    assert verify("3 north: 4 8. The answer is 4 8.", "4 8").score == 1.0
    assert verify("The answer is (4, 8).", "4 8").score == 1.0
    assert verify("3 north: 4 8", "4 8").score == 1.0
    assert verify("The answer is 4 8 or 8 4.", "4 8").score == 0.0
    assert verify("The answer is 14 8.", "4 8").score == 0.0
    assert verify("The answer is 4 8 1.", "4 8").score == 0.0
    assert verify("The answer is -4 8.", "4 8").score == 0.0
    assert verify("3 north: 4 8. The answer is 8.", "4 8").score == 0.0
    assert verify("From left to right: cup, pen. The answer is left.", "left").score == 1.0
    assert verify("From left to right: cup, pen.", "right").score == 0.0
    assert verify("The answer is left or right.", "left").score == 0.0
    assert verify("left", "4 8").score == 0.0
    assert verify("left", "up").score is None


def test_the_number_of_steps_is_checked():
    assert {each.group for each in Space(2).examples("test")} == {"walk 2", "order"}
    with pytest.raises(ValueError, match="max_steps is 2 to 4"):
        Space(9)
