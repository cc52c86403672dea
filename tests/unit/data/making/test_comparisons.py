"""What is made of a judge's verdicts on pairs of responses, and what is left out of it."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.data.making.choices import Chosen, left_out_metrics
from pipeline.data.making.comparisons import (
    ALONE,
    REPEATED,
    TIE,
    TIED_PROMPTS,
    UNANSWERED,
    Comparison,
    Outcome,
    choose_comparisons,
    make_judged_pairs,
)
from pipeline.data.reading.files import Row
from pipeline.data.reading.prompts import prompt_row
from pipeline.data.reading.responses import ResponseRow


def rows_of(*responses: tuple[str, str]) -> list[ResponseRow]:
    """Return responses given as (prompt, text)."""
    rows: list[ResponseRow] = []
    for number, (prompt, text) in enumerate(responses):
        fields: dict[str, Any] = {"prompt": prompt, "completion": text, "sample": number, "id": 7}
        row = Row(f"rows.jsonl:{number + 1}", fields)
        rows.append(ResponseRow(row.where, prompt_row(row), text, fields, "rows"))
    return rows


def made_of(
    rows: list[ResponseRow], outcomes: Mapping[tuple[int, int], Outcome], **settings: Any
) -> Chosen:
    made = Chosen()
    said = {Comparison(*pair): outcome for pair, outcome in outcomes.items()}
    settings = {"which": "all", "margin": 0.0, "soft": True, **settings}
    make_judged_pairs(rows, said, made, **settings)
    return made


THREE = rows_of(("p", "a"), ("p", "b"), ("p", "c"))


def test_every_two_different_responses_to_one_prompt_are_compared_once() -> None:
    rows = rows_of(("p", "a"), ("q", "x"), ("p", "b"), ("p", "a"), ("p", " "), ("p", "c"))
    pairs, made = choose_comparisons(rows, at_most=None, seed=0)
    assert pairs == [Comparison(0, 2), Comparison(0, 5), Comparison(2, 5)]
    assert made.num_prompts == 2
    assert made.left_out == {"empty": 1, REPEATED: 1, ALONE: 1}


def test_a_few_pairs_are_drawn_by_the_seed_and_the_texts_alone() -> None:
    rows = rows_of(*[("p", text) for text in "abcdefgh"])
    drawn = {seed: choose_comparisons(rows, at_most=5, seed=seed)[0] for seed in range(8)}
    assert all(len(pairs) == 5 for pairs in drawn.values())
    assert len({tuple(pairs) for pairs in drawn.values()}) == 8
    later = rows_of(("q", "x"), ("q", "y"), *[("p", text) for text in "abcdefgh"])
    shifted = [Comparison(pair.first + 2, pair.second + 2) for pair in drawn[0]]
    assert choose_comparisons(later, at_most=5, seed=0)[0] == [Comparison(0, 1), *shifted]


def test_a_comparison_with_a_winner_is_a_pair_and_ties_and_silence_are_counted() -> None:
    made = made_of(
        THREE,
        {
            (0, 1): Outcome("second", 0.2, "Be kind."),
            (0, 2): Outcome("tie", 0.6),
            (1, 2): Outcome(None),
        },
    )
    assert made.rows == [
        {
            "prompt": "p",
            "chosen": "b",
            "rejected": "a",
            "score_chosen": 0.8,
            "score_rejected": pytest.approx(0.2),
            "id": 7,
            "probability": 0.8,
            "principle": "Be kind.",
        }
    ]
    assert left_out_metrics(made) == {"left_out": {TIE: 1, UNANSWERED: 1}}


def test_the_best_wins_most_and_the_worst_fewest_of_its_comparisons() -> None:
    made = made_of(
        THREE,
        {
            (0, 1): Outcome("second", 0.3),
            (0, 2): Outcome("tie", 0.5),
            (1, 2): Outcome("first", 0.9, "Be brief."),
        },
        which="best_worst",
    )
    assert [(row["chosen"], row["rejected"]) for row in made.rows] == [("b", "c")]
    row = made.rows[0]
    assert (row["score_chosen"], row["score_rejected"]) == (1.0, 0.25)
    # Mean probabilities of being better: b (0.7 + 0.9) / 2, c (0.5 + 0.1) / 2.
    assert row["probability"] == pytest.approx(0.5 + (0.8 - 0.3) / 2)
    assert row["principle"] == "Be brief."


def test_of_two_responses_the_probability_is_that_of_their_comparison() -> None:
    rows = rows_of(("p", "a"), ("p", "b"))
    made = made_of(rows, {(0, 1): Outcome("second", 0.1)}, which="best_worst")
    assert made.rows[0]["probability"] == pytest.approx(0.9)
    tied = made_of(rows, {(0, 1): Outcome("tie", 0.6)}, which="best_worst")
    assert tied.rows == []
    assert left_out_metrics(tied) == {"left_out": {TIED_PROMPTS: 1}}


def test_a_margin_is_between_the_probabilities_that_either_is_better() -> None:
    outcomes = {(0, 1): Outcome("first", 0.7), (0, 2): Outcome("first", 0.8)}
    made = made_of(THREE, outcomes, margin=0.5)
    assert [row["rejected"] for row in made.rows] == ["c"]
    assert left_out_metrics(made) == {"left_out": {"too close to tell apart": 1}}


@pytest.mark.parametrize(("probability", "soft"), [(1.0, True), (0.9, False)])
def test_a_probability_is_written_only_where_the_judge_tells_any(
    probability: float, soft: bool
) -> None:
    made = made_of(THREE, {(0, 1): Outcome("first", probability)}, soft=soft)
    assert "probability" not in made.rows[0]
