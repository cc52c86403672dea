"""Fingerprints: one text for one meaning, refusal of what has none, differences named."""

import math

import pytest

from pipeline.store.fingerprint import canonical, explain, fingerprint


def test_the_order_of_keys_does_not_matter_and_values_do() -> None:
    assert fingerprint({"a": 1, "b": [1.5, None]}) == fingerprint({"b": [1.5, None], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


@pytest.mark.parametrize("value", [object(), {1: 2}, {"f": print}, b"bytes", {1, 2}])
def test_values_without_a_stable_text_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"canonical form|not a string"):
        canonical({"x": value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no canonical form"):
        canonical({"x": [value]})


def test_the_differences_are_named_by_their_keys() -> None:
    old = {"training_args": {"learning_rate": 0.1, "epochs": 1}, "data": [{"task": "facts"}]}
    new = {"training_args": {"learning_rate": 0.2, "epochs": 1}, "data": [{"task": "sums"}], "x": 1}
    assert explain(old, new) == [
        'data[0].task: "facts" -> "sums"',
        "training_args.learning_rate: 0.1 -> 0.2",
        "x: (absent) -> 1",
    ]
