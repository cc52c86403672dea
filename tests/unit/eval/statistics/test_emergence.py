"""A skill by two scores: right or wrong, and how much of an answer is right."""

import pytest

from eval.results import CHOICE, VERIFIED, ItemResult
from eval.statistics.emergence import edit_distance, similarity, skill_scores


def answered(answer: str | None, gold: str, *, metric: str = VERIFIED) -> ItemResult:
    score = None if answer is None else float(answer == gold)
    return ItemResult(
        *("sums", gold, metric, "zero-shot", "document", "?", gold), answer=answer, score=score
    )


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("46", "46", 0)],
)
def test_the_edit_distance_is_levenshteins(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_an_answer_that_is_nearly_right_counts_nearly_whole() -> None:
    assert similarity("1234", "1235") == 0.75
    assert similarity("", "1235") == 0
    assert similarity("", "") == 1


def test_exact_match_stays_at_none_while_the_share_that_is_right_rises() -> None:
    golds = [f"{number}" for number in range(100_000, 100_020)]
    shares = []
    for right in range(7):
        wrong = [gold[:right] + "x" * (6 - right) for gold in golds]
        (found,) = skill_scores([answered(w, g) for w, g in zip(wrong, golds, strict=True)])
        shares.append((found.exact.value, round(found.partial.value, 3)))
    assert [exact for exact, _ in shares] == [0] * 6 + [1]
    assert [share for _, share in shares] == [round(right / 6, 3) for right in range(7)]


def test_only_graded_written_answers_count() -> None:
    results = [answered("1", "1"), answered(None, "2"), answered("3", "3", metric=CHOICE)]
    (found,) = skill_scores(results)
    assert (found.n, found.exact.value) == (1, 1)
