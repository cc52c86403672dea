"""A comparison comes back from its file as it went in, or not at all."""

import json
import re
from dataclasses import replace

import pytest

from eval.comparison.comparison import Comparison, compare_results
from eval.comparison.gate import Bounds
from eval.comparison.pool import PooledComparison, pool
from tests.unit.eval.comparison.test_comparison_tables import SAMPLES, results, sampled


def compared():
    """Return a comparison that fills every table, with a verdict."""
    found = {
        "base": [*sampled(SAMPLES, group="a"), *results([0.5] * 5, task="words", shots=1)],
        "sft": [
            *sampled(SAMPLES, group="a", log_ratio=0.25, num_tokens=3),
            *results([1.0, 0.5, 0.0, 0.5, 0.75], task="words", shots=1),
        ],
    }
    whole = compare_results(
        found,
        "base",
        trained_from={"sft": "base"},
        notes=["a lone \ud800 surrogate"],
        gate={"sums": Bounds(delta_low=0.0)},
    )
    return found, whole


def on_disk(record):
    return json.loads(json.dumps(record.to_json(), indent=1))


def test_a_comparison_read_back_is_the_one_that_was_written():
    _, whole = compared()
    assert all((whole.flips, whole.divergence, whole.gate))
    again = Comparison.from_json(on_disk(whole))
    assert again == whole
    assert json.dumps(again.to_json()) == json.dumps(whole.to_json())


def test_a_comparison_pooled_over_seeds_read_back_is_the_one_that_was_written():
    found, whole = compared()
    rows = tuple(pool([found, found], "base"))
    pooled = PooledComparison("base", whole.models, (1, 2), ("a", "b"), rows, whole.gate)
    assert PooledComparison.from_json(on_disk(pooled)) == pooled


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content.pop("rows"), "it has no `rows`"),
        (lambda content: content["rows"][0].pop("p"), "`rows.0` has no `p`"),
        (lambda content: content["rows"][1].update(n=True), "`rows.1.n` is `True`"),
        (lambda content: content["rows"][1].update(score="0.5"), "`rows.1.score` is `0.5`"),
        (lambda content: content["rows"][1].update(style="shouting"), "`rows.1.style`"),
        (lambda content: content.update(rows={}), "`rows` is `{}`"),
        (lambda content: content.update(gate=[]), "`gate` is not an object"),
        (lambda content: content.update(models=[1]), "`models.0` is `1`"),
        (lambda content: content.update(others=1), "a field `others`"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_comparison_is_refused_with_the_place(damage, said):
    content = on_disk(compared()[1])
    damage(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        Comparison.from_json(content)


@pytest.mark.parametrize("content", [None, [], "comparison", 1])
def test_what_is_not_an_object_is_refused(content):
    with pytest.raises(ValueError, match="it is not an object"):
        Comparison.from_json(content)


def test_a_verdict_tells_the_conditions_that_failed():
    _, whole = compared()
    assert whole.gate is not None
    (verdict,) = whole.gate.verdicts
    broken = tuple(replace(condition, holds=False) for condition in verdict.conditions)
    assert replace(verdict, conditions=broken).failed == broken
