"""Who is admitted to judge: made judges whose worth is known, and the recorded ones of LLMBar."""

import json
import random

import pytest

from eval.comparison.licence import examine
from eval.statistics.agreement import JudgedPair

SIDES = ("first", "second")
SETS = ("natural", "neighbor", "gptinst", "gptout", "manual")
# Accuracy with ties half, and admitted or not, of the 419 pairs of Zeng et al. 2023.
RECORDED = {
    "gpt-4": {
        "natural": (0.935, True),
        "neighbor": (0.642, True),
        "gptinst": (0.766, True),
        "gptout": (0.766, True),
        "manual": (0.750, True),
        "all": (0.765, True),
    },
    "chatgpt": {
        "natural": (0.790, True),
        "neighbor": (0.179, False),
        "gptinst": (0.293, False),
        "gptout": (0.436, False),
        "manual": (0.370, False),
        "all": (0.400, False),
    },
}


def exam(seed: int, choose, *, n=200, longer_is_right=0.55) -> list[JudgedPair]:
    """Pairs that `choose(draw, label, longer)` judges."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(n):
        label = draw.choice(SIDES)
        longer = label if draw.random() < longer_is_right else SIDES[1 - SIDES.index(label)]
        verdict = choose(draw, label, longer)
        pairs.append(JudgedPair(label, verdict, verdict, (9, 5) if longer == "first" else (5, 9)))
    return pairs


def often_right(share: float):
    return lambda draw, label, _: label if draw.random() < share else SIDES[1 - SIDES.index(label)]


def test_a_coin_is_admitted_no_oftener_than_its_interval_errs():
    admitted = sum(
        examine(exam(seed, lambda draw, *_: draw.choice(SIDES))).is_admitted for seed in range(400)
    )
    assert admitted <= 20  # 2.5% of 400 are 10; 20 or more have a chance of 0.3%


@pytest.mark.parametrize("longer_is_right", [0.5, 0.6, 0.75, 0.9])
def test_length_alone_is_never_admitted(longer_is_right):
    for seed in range(30):
        pairs = exam(seed, lambda _, __, longer: longer, longer_is_right=longer_is_right)
        licence = examine(pairs)
        assert not licence.is_admitted
        assert ("no better than length" if longer_is_right > 0.6 else "") in licence.why


def test_a_judge_that_is_often_right_is_admitted():
    assert all(examine(exam(seed, often_right(0.8))).is_admitted for seed in range(30))


def test_always_the_first_place_is_refused_and_the_reason_says_so():
    pairs = [JudgedPair(side, "first", "second", (1, 2)) for side in SIDES * 40]
    licence = examine(pairs)
    assert not licence.is_admitted
    assert "may be chance (0.50) (80 got another answer in the other order)" in licence.why


def test_leaving_hard_pairs_out_gains_nothing():
    sure = [JudgedPair("first", "first", "first", (2, 1))] * 12
    silent = [JudgedPair("first", None, "first", (1, 2))] * 88
    licence = examine([*sure, *silent])
    assert licence.figures.accuracy.value == pytest.approx(0.56)
    assert licence.figures.unanswered == 88
    assert not licence.is_admitted or licence.figures.accuracy.low > 0.5
    assert examine(sure[:3] + silent).is_admitted is False
    assert "88 got no answer" in examine(silent).why


def test_few_pairs_prove_nothing():
    assert not examine([JudgedPair("first", "first", "first", (1, 1))] * 3).is_admitted


def test_metrics_have_every_figure_and_the_ends_of_its_interval():
    metrics = examine(exam(1, often_right(0.8)), has_orders=False).metrics()
    assert metrics["admitted"] is True
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert "first_place" not in metrics
    assert json.loads(json.dumps(metrics)) == metrics


def recorded(folder, judge: str, name: str) -> list[tuple[int, str, str, int, int]]:
    """Label, winner in both orders, and lengths, as LLMBar has them."""
    pairs = json.loads((folder / f"{name}.json").read_text())
    verdicts = json.loads((folder / f"verdicts_{judge}_{name}.json").read_text())
    return [
        (
            pair["label"],
            said["results"][0]["swap = False"]["winner"],
            said["results"][0]["swap = True"]["winner"],
            len(pair["output_1"]),
            len(pair["output_2"]),
        )
        for pair, said in zip(pairs, verdicts, strict=True)
    ]


def decide_by_loop(rows) -> bool:
    """The same decision by another test: what is right is counted, and signs are reversed.

    Fisher's randomisation test, one-sided at 2.5%: if a judge were no better than the other, each
    difference could as well have the opposite sign.
    """
    right, length = [], []
    for label, one, other, a, b in rows:
        right.append(0.5 if one != other else float(int(one) == label))
        length.append(0.5 if a == b else float((1 if a > b else 2) == label))
    above_chance = _is_above([2 * r - 1 for r in right])
    above_length = _is_above([r - k for r, k in zip(right, length, strict=True)])
    return above_chance and above_length


def _is_above(differences: list[float]) -> bool:
    """Whether fewer than 2.5% of 2,000 reversals of signs give as large a sum (Fisher 1935)."""
    draw, goal = random.Random(7), sum(differences)
    sizes = [abs(d) for d in differences if d]
    hits = sum(
        sum(size if draw.random() < 0.5 else -size for size in sizes) >= goal for _ in range(2_000)
    )
    return hits < 0.025 * 2_000


@pytest.mark.parametrize("judge", RECORDED)
def test_the_recorded_judges_of_llmbar(real_data, judge):
    every = []
    table = {}
    for name in (*SETS, "all"):
        rows = every if name == "all" else recorded(real_data / "llmbar", judge, name)
        every = every if name == "all" else [*every, *rows]
        pairs = [
            JudgedPair(SIDES[label - 1], SIDES[int(one) - 1], SIDES[int(other) - 1], (a, b))
            for label, one, other, a, b in rows
        ]
        licence = examine(pairs)
        table[name] = (round(licence.figures.accuracy.value, 3), licence.is_admitted)
        assert licence.is_admitted == decide_by_loop(rows), name
    assert table == RECORDED[judge]
    assert len(every) == 419
