"""BLiMP: what two sentences share stands before both, and the rest is what is compared."""

import pytest

from eval.tasks.benchmark import RowsError
from eval.tasks.blimp import Blimp

ROWS = [
    {"sentence_good": "All boys boast about that child.", "UID": "agreement",
     "sentence_bad": "All boys boast about those child."},
    {"sentence_good": "Who slept?", "sentence_bad": "What slept?", "UID": "animate"},
    {"sentence_good": "He ran", "sentence_bad": "He ran ran", "UID": "doubled"},
]  # fmt: skip


def _task(*rows: dict[str, str]) -> Blimp:
    return Blimp({"test": lambda: ((f"row {n}", row) for n, row in enumerate(rows))})


def test_both_sentences_go_on_from_the_words_they_share() -> None:
    found = {example.group: example for example in _task(*ROWS).examples("test")}
    agreement = found["agreement"]
    assert agreement.document == "\nAll boys boast about"
    assert (agreement.continuation, agreement.distractors) == (" that child.", (" those child.",))
    assert found["animate"].document == "\n"
    assert found["animate"].continuation == "Who slept?"
    assert found["doubled"].document == "\nHe"  # something is left of both
    for example in found.values():
        assert example.document + example.continuation == f"\n{example.reference}"


def test_the_same_sentence_twice_is_no_pair() -> None:
    with pytest.raises(RowsError, match=r"row 0: .*are no two sentences"):
        list(_task({"sentence_good": "He ran.", "sentence_bad": "He ran. "}).examples("test"))
