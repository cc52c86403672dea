"""The comparison of several seeds, pooled."""

import json
import statistics
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from eval.comparison.gate import Bounds, judge
from eval.comparison.pool import mean_row, pool
from eval.comparison.score_rows import compare_scores
from eval.results import ItemResult


def results(scores, *, style="zero-shot", metric="verified_accuracy", weights=None, gold=True):
    return [
        ItemResult(
            task="sums",
            item=f"item {index}",
            metric=metric,
            style=style,
            form="document",
            prompt="",
            gold="",
            score=score,
            weight=weights[index] if weights else 1.0,
            gold_score=score if gold else None,
            lower_is_better=metric == "bits_per_byte",
        )
        for index, score in enumerate(scores)
    ]


def drawn(seed, rate, n=60):
    return (np.random.default_rng(seed).random(n) < rate).astype(float).tolist()


def seed_results(seed):
    """One seed: a base and a candidate, each in two styles, the better of which differs by seed."""
    rates = (0.3, 0.5) if seed % 2 else (0.5, 0.3)
    base = results(drawn(seed, rates[0]))
    base += results(drawn(seed + 50, rates[1]), style="few-shot")
    return {"base": base, "sft": results(drawn(seed + 100, 0.7))}


SEEDS = [seed_results(seed) for seed in (1, 2, 3)]


def test_means_are_those_of_the_seeds_own_rows():
    rows_by_seed = [compare_scores(seed, "base") for seed in SEEDS]
    pooled = pool(SEEDS, "base")
    assert len(pooled) == len(rows_by_seed[0])
    for row, own in zip(pooled, zip(*rows_by_seed, strict=True), strict=True):
        first = own[0]
        assert (row.task, row.metric, row.model, row.style, row.form) == (
            first.task, first.metric, first.model, first.style, first.form,
        )  # fmt: skip
        assert row.n == tuple(each.n for each in own)
        assert row.against == tuple(each.against for each in own)
        scores = [each.score for each in own]
        assert row.score.by_seed == tuple(scores)
        assert row.score.mean == pytest.approx(sum(scores) / 3)
        assert (row.score.smallest, row.score.largest) == (min(scores), max(scores))
        assert row.score.deviation == pytest.approx(statistics.stdev(scores))
        if row.delta is None:
            assert first.delta is None
        else:
            assert row.delta.by_seed == pytest.approx([each.delta for each in own])
            assert row.delta.mean == pytest.approx(sum(each.delta for each in own) / 3)
    assert {row.against for row in pooled if row.model == "sft"} >= {
        ("few-shot", "zero-shot", "few-shot")
    }
    assert [row.metric for row in pooled][-1] == "win_rate"


def test_the_interval_draws_items_with_all_their_seeds():
    """Against a plain loop: draw items, take each seed's mean of them, then the seeds' mean."""
    (row,) = [r for r in pool(SEEDS, "base") if (r.model, r.metric) == ("sft", "verified_accuracy")]
    scores = [[item.score for item in seed["sft"]] for seed in SEEDS]
    generator = np.random.default_rng(5)
    means = []
    for _ in range(4000):
        items = generator.integers(0, 60, 60)
        means.append(sum(sum(seed[item] for item in items) / 60 for seed in scores) / 3)
    low, high = np.quantile(means, [0.025, 0.975])
    assert (row.score.low, row.score.high) == pytest.approx((low, high), abs=0.01)


def test_seeds_that_answer_alike_are_not_taken_for_more_items():
    """Three times the same model knows no more than once; independent seeds narrow the interval."""
    once = SEEDS[0]
    (own,) = [
        row for row in compare_scores(once, "base") if (row.model, row.metric[:3]) == ("sft", "ver")
    ]
    rows = {(row.model, row.style, row.metric): row for row in pool([once] * 3, "base")}
    same = rows["sft", "zero-shot", "verified_accuracy"]
    assert (same.score.low, same.score.high) == (own.low, own.high)
    assert (same.delta.low, same.delta.high) == (own.delta_low, own.delta_high)
    assert (same.score.deviation, same.score.seed_low) == (0.0, None)
    almost = [dict(once) for _ in range(3)]
    first = once["sft"][0]
    almost[2]["sft"] = [replace(first, score=1.0 - first.score), *once["sft"][1:]]
    near = {(r.model, r.style, r.metric): r for r in pool(almost, "base")}[
        "sft", "zero-shot", "verified_accuracy"
    ]
    assert near.score.high - near.score.low == pytest.approx(own.high - own.low, rel=0.1)


def test_a_single_seed_gives_its_own_rows():
    for row, own in zip(pool(SEEDS[:1], "base"), compare_scores(SEEDS[0], "base"), strict=True):
        assert (row.score.mean, row.score.low, row.score.high) == (own.score, own.low, own.high)
        assert (row.score.deviation, row.score.seed_low) == (None, None)
        if row.delta is not None:
            assert (row.delta.mean, row.delta.low) == (own.delta, own.delta_low)


def test_the_interval_over_seeds_is_students():
    (row,) = [r for r in pool(SEEDS, "base") if (r.model, r.metric) == ("sft", "win_rate")]
    values = row.score.by_seed
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (row.score.seed_low, row.score.seed_high) == pytest.approx(expected)
    assert all(row.score.seed_low is None for row in pool(SEEDS[:2], "base"))


def test_an_item_that_one_seed_could_not_grade_counts_in_the_others():
    ungraded = [None, 1.0, 0.0, 1.0]
    seeds = [{"base": results(ungraded)}, {"base": results([1.0, 1.0, 0.0, 0.0])}]
    (row,) = pool(seeds, "base")
    assert (row.n, row.ungraded) == ((3, 4), (1, 0))
    assert row.score.mean == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert row.score.low < row.score.mean < row.score.high


def test_a_figure_that_a_seed_lacks_has_no_mean():
    seeds = [{"base": results([None, None])}, {"base": results([1.0, 0.0])}]
    (row,) = pool(seeds, "base")
    assert row.score.by_seed == (None, 0.5)
    assert (row.score.mean, row.score.low, row.score.deviation) == (None, None, None)
    mixed = [
        {"base": results([1.0, 0.0], gold=gold), "sft": results([1.0, 1.0])}
        for gold in (True, False)
    ]
    assert "win_rate" not in {row.metric for row in pool(mixed, "base")}


def test_documents_weigh_by_their_bytes():
    weights = [10.0, 30.0, 60.0]
    texts = {"metric": "bits_per_byte", "weights": weights, "style": "none"}
    seeds = [
        {"base": results([3.0, 3.0, 3.0], **texts), "more": results(scores, **texts)}
        for scores in ([1.0, 2.0, 2.0], [2.0, 2.0, 2.0])
    ]
    row = pool(seeds, "base")[-1]
    assert row.score.by_seed == pytest.approx((1.9, 2.0))
    assert row.delta.mean == pytest.approx(-1.05)
    assert row.delta.low <= row.delta.mean <= row.delta.high


def test_seeds_that_asked_different_things_are_not_pooled():
    two, three = {"base": results([1.0, 0.0])}, {"base": results([1.0, 0.0, 1.0])}
    with pytest.raises(ValueError, match=r"only some asked `base` item `item 2` of `sums`"):
        pool([two, three], "base")
    with pytest.raises(ValueError, match="only some asked `sft`"):
        pool([two, two | {"sft": results([1.0, 0.0])}], "base")
    with pytest.raises(ValueError, match="no seed's result"):
        pool([], "base")


def test_a_gate_judges_pooled_rows_by_their_intervals():
    rows = pool(SEEDS, "base")
    (row,) = [r for r in rows if (r.model, r.metric) == ("sft", "verified_accuracy")]
    for bounds, ships in (
        ({"delta_low": row.delta.low}, True),
        ({"delta_low": row.delta.low + 1e-9}, False),
        ({"score_low": row.score.low, "score_high": row.score.high}, True),
        ({"score_high": row.score.high - 1e-9}, False),
    ):
        found = judge([mean_row(each) for each in rows], {"sums": Bounds(**bounds)}, "base")
        assert found.ships == ships


def test_ways_of_asking_and_samples_are_pooled_apart():
    seeds = [
        {"base": [replace(r, shots=shots, sample=sample) for shots in (1, 3) for sample in (0, 1)
                  for r in results(drawn(seed + sample, 0.2 * shots), style="few-shot")]}
        for seed in (1, 2)
    ]  # fmt: skip
    rows = pool(seeds, "base", pass_at=[1])
    assert [(row.metric, row.shots, row.samples) for row in rows] == [
        (metric, shots, 2)
        for metric in ("verified_accuracy", "pass@1", "pass@2")
        for shots in (1, 3)
    ]
    once, again, twice = rows[0], rows[2], rows[4]
    assert once.score.mean == again.score.mean < twice.score.mean
    with pytest.raises(ValueError, match="only some asked"):
        pool([seeds[0], {"base": seeds[1]["base"][:-1]}], "base")


def test_rows_go_through_json():
    text = json.dumps([asdict(row) for row in pool(SEEDS, "base")], allow_nan=False)
    assert len(json.loads(text)[0]["score"]["by_seed"]) == 3
