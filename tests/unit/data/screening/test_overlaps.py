"""Test items are found in rows, however they are wrapped, and nothing else is."""

import random
import textwrap
from collections.abc import Callable

import pytest

from pipeline.data.screening.overlaps import Item, Overlaps

# Invented for these tests; no benchmark's.
QUESTIONS = (
    "A baker makes forty loaves before dawn and sells three quarters of them by noon. In the "
    "afternoon nine more are sold, and the rest goes to the shelter on Mill Street. How many "
    "loaves does the shelter receive?",
    "Explain to a child of eight why the moon seems to follow the car on a drive through the "
    "night, and name two other things far away that would seem to do the same.",
    "Write a function that takes a list of intervals and returns the total length that they cover, "
    "counting what overlaps only once and treating empty intervals as nothing.",
    "Which of these rivers does not cross the border between two countries on its way to the sea?",
)
FILLER = (
    "The committee met again on Tuesday to talk about the budget. Nobody had read the papers, and "
    "so the meeting ended early. Later that week a letter arrived from the mayor. It asked for the "
    "list of repairs that had been promised in spring, and for an account of what they had cost."
)


def _lower(text: str) -> str:
    return text.lower().replace(",", "").replace(".", " ;")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 30))


def _in_filler(text: str) -> str:
    return f"{FILLER}\n\n{text} {FILLER}"


def _edited(text: str) -> str:
    words = text.split()
    words[5] = "roughly"
    del words[-3]
    return " ".join(words)


PLANTED: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "in other case and punctuation": _lower,
    "wrapped at 30 characters": _wrapped,
    "eight words a line": lambda text: "\n".join(
        " ".join(text.split()[at : at + 8]) for at in range(0, len(text.split()), 8)
    ),
    "inside filler": _in_filler,
    "lightly edited": _edited,
    "all of that": lambda text: _wrapped(_in_filler(_lower(_edited(text)))),
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_item_is_found(how: str):
    found = _overlaps().find([[PLANTED[how](question)] for question in QUESTIONS])
    assert [[each.item for each in row] for row in found] == [[0], [1], [2], [3]]


def test_rows_that_hold_no_item_are_not_found():
    rows = [[FILLER], ["A baker sells bread by noon."], [""], ["?!"], []]
    assert _overlaps().find(rows) == [[], [], [], [], []]


def test_a_row_that_holds_two_items_names_both():
    (found,) = _overlaps().find([[QUESTIONS[0], "I do not know.", _wrapped(QUESTIONS[2])]])
    assert sorted(each.item for each in found) == [0, 2]


def test_rows_looked_up_together_are_found_as_they_are_alone():
    rows = [[how(question)] for how in PLANTED.values() for question in QUESTIONS]
    rows += [[FILLER], ["No."], [f"{FILLER} {FILLER}"]]
    random.Random(1).shuffle(rows)
    index = _overlaps()
    assert index.find(rows) == [index.find([row])[0] for row in rows]


def test_what_all_items_of_a_template_share_is_no_overlap():
    people, things = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"), ("pens", "nuts", "eggs", "keys")
    made = [
        f"{who} has {n} {what} and gives {k} of them to a friend on the way home. "
        f"How many {what} does {who} have left in the end?"
        for who in people
        for what in things
        for n in range(20, 40, 3)
        for k in range(2, 9)
    ]
    random.Random(0).shuffle(made)
    items, rows = made[:300], made[300:]
    index = Overlaps([Item("own", str(n), (text,)) for n, text in enumerate(items)])
    assert not any(index.find([[row] for row in rows]))
    assert all(index.find([[_wrapped(item)] for item in items]))


def test_a_question_with_other_numbers_is_another_question():
    question = (
        "On a farm there are 48 goats and 17 horses. In spring 6 goats are sold at the market, and "
        "a neighbour buys as many horses as he has stables. How many animals are left on the farm?"
    )
    other = question.replace("48", "52").replace("17", "31").replace(" 6 ", " 9 ")
    index = Overlaps([Item("own", "1", (question,))])
    assert index.find([[other], [question.replace("48", "52")]])[0] == []
    assert len(index.find([[question.replace("48", "52")]])[0]) == 1


@pytest.mark.parametrize("before", range(40, 104, 3))
def test_an_item_is_found_wherever_it_stands_and_with_words_put_in(before: int):
    words = QUESTIONS[0].split()
    words[20:20] = ["as", "far", "as", "anybody", "knows", "today"]
    filler = (FILLER.split() * 3)[:before]
    (found,) = _overlaps().find([[" ".join([*filler, *words, *filler])]])
    assert [each.item for each in found] == [0]


def test_instructions_that_many_items_begin_with_are_no_overlap():
    shared = (
        "You are given a passage and a question about it. Read the passage with care and answer "
        "the question in one short sentence that uses no words other than those of the passage. "
    )
    index = Overlaps(
        [Item("own", str(n), (shared + question,)) for n, question in enumerate(QUESTIONS)]
    )
    other = "Passage: snow fell all night. Question: what colour were the roofs in the morning?"
    assert index.find([[shared + other], [shared]]) == [[], []]
    assert [each.item for (each,) in index.find([[QUESTIONS[1]], [shared + QUESTIONS[3]]])] == [
        1,
        3,
    ]


def test_a_short_item_is_found_where_it_is_a_whole_text_only():
    index = Overlaps([Item("own", "1", ("What is 3 + 4?",)), Item("own", "2", ("Say hello.",))])
    rows = [["what is  3 + 4"], ["What is 3 - 4?"], ["So what is 3 + 4? It is 7."], ["say hello"]]
    found = index.find(rows)
    assert [[each.item for each in row] for row in found] == [[0], [], [], [1]]
    assert all(each.is_whole for row in found for each in row)


def test_a_long_document_is_found_by_the_half_of_it():
    rng = random.Random(5)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ale", "ine", "oku", "uma", "eri")]
    text = " ".join(rng.choices(words, k=400))
    index = Overlaps([Item("own", "1", (text,))])
    half, tenth = " ".join(text.split()[:260]), " ".join(text.split()[:40])
    assert index.find([[FILLER + half], [tenth]])[0][0].share == pytest.approx(0.6, abs=0.1)
    assert index.find([[tenth]]) == [[]]


def test_texts_without_spaces_are_found():
    text = "\u5c0f\u660e\u6709\u4e09\u4e2a\u82f9\u679c\u4ed6\u5403"
    text += "\u4e86\u4e00\u4e2a\u8fd8\u5269\u51e0\u4e2a"
    index = Overlaps([Item("own", "1", (text,))])
    found = index.find([["\u8bf7\u95ee\uff1a" + text[:9] + "\n" + text[9:] + "\uff1f"], [text[:6]]])
    assert [len(row) for row in found] == [1, 0]


def test_there_may_be_no_items_and_items_without_words():
    assert Overlaps([]).find([[FILLER]]) == [[]]
    assert Overlaps([Item("own", "1", ("...", ""))]).find([[FILLER], ["..."]]) == [[], []]


def _overlaps() -> Overlaps:
    return Overlaps([Item("own", str(n), (text,)) for n, text in enumerate(QUESTIONS)])
