"""Texts are read with the context that a model was trained on, and tables say which it was."""

from dataclasses import replace

import pytest

from eval.asking.run import evaluate_texts
from eval.comparison.comparison import compare_results
from eval.comparison.score_rows import compare_scores
from tests.unit.eval.conftest import POSITIONS

TEXTS = {"tale": ["Once upon a time a model could not write. " * 8]}


def bits(model, window=None) -> float:
    results = {"m": evaluate_texts(model, TEXTS, batch_size=4, window=window)}
    (row,) = compare_scores(results, "m")
    assert row.window == (window or model.window)
    assert row.score is not None
    return row.score


def test_the_window_is_the_length_trained_on_however_many_positions_there_are(tiny) -> None:
    assert tiny.window == POSITIONS
    trained = replace(tiny, trained_length=24)
    assert trained.window == 24
    # The same weights in a config with 24 positions: the same figure, to the last digit.
    limit = tiny.module.config.max_position_embeddings
    try:
        tiny.module.config.max_position_embeddings = 24
        expected = bits(tiny)
    finally:
        tiny.module.config.max_position_embeddings = limit
    assert bits(trained) == expected
    assert bits(trained, window=POSITIONS) == bits(tiny) != expected


def test_training_on_longer_rows_than_positions_gives_no_longer_window(tiny) -> None:
    assert replace(tiny, trained_length=4000).window == POSITIONS


@pytest.mark.parametrize(("window", "is_said"), [(24, True), (POSITIONS, False)])
def test_a_comparison_says_when_texts_were_read_with_other_context(tiny, window, is_said) -> None:
    found = compare_results(
        {
            "base": evaluate_texts(tiny, TEXTS, batch_size=4),
            "sft": evaluate_texts(tiny, TEXTS, batch_size=4, window=window),
        },
        "base",
    )
    said = [note for note in found.notes if "read with other context" in note]
    assert bool(said) == is_said
    assert all("`base` 96, `sft` 24 tokens" in note for note in said)


def test_a_text_shorter_than_either_window_is_no_case_for_a_note(tiny) -> None:
    texts = {"tale": ["Short."]}
    found = compare_results(
        {
            "base": evaluate_texts(tiny, texts, batch_size=4),
            "sft": evaluate_texts(tiny, texts, batch_size=4, window=24),
        },
        "base",
    )
    assert not [note for note in found.notes if "other context" in note]
