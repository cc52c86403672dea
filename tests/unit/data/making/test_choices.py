"""What is made of scored responses: pairs, thumbs, the best; and what is left out of it."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.data.making.choices import (
    Chosen,
    Scored,
    choose_best,
    left_out_metrics,
    make_pairs,
    make_thumbs,
)
from pipeline.data.making.rows import histogram
from pipeline.data.reading.files import Row
from pipeline.data.reading.prompts import prompt_row
from pipeline.data.reading.responses import ResponseRow


def scored(*responses: tuple[str, str, float | None], **columns: Any) -> list[Scored]:
    """Return responses given as (prompt, text, score)."""
    rows: list[Scored] = []
    for number, (prompt, text, score) in enumerate(responses):
        fields = {"prompt": prompt, "completion": text, "sample": number, "id": 7, **columns}
        row = Row(f"rows.jsonl:{number + 1}", fields)
        rows.append(Scored(ResponseRow(row.where, prompt_row(row), text, fields, "rows"), score))
    return rows


def texts(made: Chosen, *names: str) -> list[Any]:
    return [tuple(row[name] for name in names) for row in made.rows]


FOUR = (("p", "a", 1.0), ("p", "b", 3.0), ("p", "c", 3.0), ("p", "d", 0.5))


def test_the_best_is_paired_with_the_worst_and_the_first_of_equals_is_the_better() -> None:
    made = make_pairs(scored(*FOUR), which="best_worst", margin=0.0)
    assert texts(made, "chosen", "rejected", "score_chosen", "score_rejected") == [
        ("b", "d", 3.0, 0.5)
    ]
    assert made.rows[0]["id"] == 7  # a column of the prompt's row
    assert "sample" not in made.rows[0]  # of one response, not of a pair
    assert left_out_metrics(made) == {}


def test_all_pairs_are_those_whose_scores_differ_and_ties_are_counted() -> None:
    made = make_pairs(scored(*FOUR), which="all", margin=0.0)
    assert texts(made, "chosen", "rejected") == [
        ("b", "a"),
        ("b", "d"),
        ("c", "a"),
        ("c", "d"),
        ("a", "d"),
    ]
    assert left_out_metrics(made) == {"left_out": {"too close to tell apart": 1}}


@pytest.mark.parametrize(("margin", "pairs"), [(0.5, 5), (0.51, 4), (2.0, 4), (2.6, 0)])
def test_a_margin_is_the_least_difference_that_counts(margin: float, pairs: int) -> None:
    made = make_pairs(scored(*FOUR), which="all", margin=margin)
    assert len(made.rows) == pairs
    assert made.left_out["too close to tell apart"] == 6 - pairs


def test_what_makes_no_pair_is_counted_by_its_reason() -> None:
    rows = scored(
        *(("tie", "a", 1.0), ("tie", "b", 1.0)),
        *(("alone", "a", 1.0), ("alone", "b", None)),
        *(("same", "a", 1.0), ("same", "a", 2.0)),
        *(("none", "a", None), ("blank", " ", 5.0)),
    )
    made = make_pairs(rows, which="best_worst", margin=0.0)
    assert made.rows == []
    assert made.num_prompts == 5
    assert left_out_metrics(made)["left_out"] == {
        "too close to tell apart": 1,
        "without a score": 2,
        "prompts with one scored response": 1,
        "whose two responses are equal": 1,
        "prompts without a response to choose": 2,
        "empty": 1,
    }


def test_responses_to_equal_prompts_with_other_references_are_not_compared() -> None:
    rows = scored(("p", "a", 1.0), reference="1") + scored(("p", "b", 0.0), reference="2")
    assert make_pairs(rows, which="all", margin=0.0).num_prompts == 2


def test_responses_of_two_stages_to_one_prompt_are_compared() -> None:
    rows = scored(("p", "a", 1.0), source="x") + scored(("p", "b", 0.0), source="y")
    assert texts(make_pairs(rows, which="all", margin=0.0), "chosen", "rejected") == [("a", "b")]


def test_thumbs_by_a_threshold_are_up_from_it_on() -> None:
    made = make_thumbs(scored(*FOUR, ("q", "e", None)), 1.0)
    assert texts(made, "completion", "label") == [
        ("a", True),
        ("b", True),
        ("c", True),
        ("d", False),
    ]
    assert made.left_out["without a score"] == 1


def test_thumbs_by_the_mean_leave_out_what_is_at_it() -> None:
    rows = scored(("p", "a", 1.0), ("p", "b", 2.0), ("p", "c", 3.0), ("q", "d", 1.0))
    made = make_thumbs(rows, "mean")
    assert texts(made, "completion", "label", "score") == [("a", False, 1.0), ("c", True, 3.0)]
    assert left_out_metrics(made)["left_out"] == {
        "at their prompt's mean": 1,
        "prompts with one scored response": 1,
    }


def best(rows: Sequence[Scored], at_least: float | None = None, *, cut: bool = False) -> Chosen:
    return choose_best(rows, at_least=at_least, keeps_cut=cut)


def test_the_best_is_the_first_of_the_highest_scores() -> None:
    made = best(scored(*FOUR))
    assert texts(made, "completion", "score", "out_of", "sample") == [("b", 3.0, 4, 1)]


def test_prompts_where_none_is_good_enough_are_left_out_and_counted() -> None:
    made = best(scored(*FOUR, ("q", "e", 2.0)), 2.5)
    assert texts(made, "completion") == [("b",)]
    assert left_out_metrics(made)["left_out"] == {"prompts where none reaches `at_least`": 1}


def test_a_response_that_was_cut_off_is_the_best_only_if_the_recipe_says_so() -> None:
    rows = scored(("p", "a", 1.0), finish="eos") + scored(("p", "b", 2.0), finish="length")
    assert texts(best(rows), "completion") == [("a",)]
    assert best(rows).left_out["cut off"] == 1
    assert texts(best(rows, cut=True), "completion") == [("b",)]


def test_a_histogram_counts_every_number_once() -> None:
    numbers = [number / 7 for number in range(100)]
    bins = histogram(numbers)
    assert sum(bins["counts"]) == 100
    assert bins["edges"][0] == 0.0
    assert bins["edges"][-1] == pytest.approx(99 / 7)
    assert histogram([0.0, 1.0, 1.0]) == {"values": [0.0, 1.0], "counts": [1, 2]}
