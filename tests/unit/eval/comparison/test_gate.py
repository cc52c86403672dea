"""A gate: which rows its keys name, which of its bounds hold, and who ships."""

from dataclasses import replace

import pytest
from test_score_rows import results

from eval.comparison.gate import Bounds, Named, judge, resolve
from eval.comparison.score_rows import compare_scores

RIGHT, WRONG = 1.0, 0.0
TEXT = "real:books/wikitext.txt"
KNOWN = {
    "arithmetic": ["choice_accuracy", "verified_accuracy", "win_rate"],
    "arithmetic(digits=3, sign=true)": ["verified_accuracy"],
    "hellaswag": ["acc", "acc_norm"],
    "mine": [],
    TEXT: ["bits_per_byte"],
}


def scored(share, n=200, *, gold=None, **more):
    """Return results with so many right answers, the right ones first."""
    found = results([RIGHT] * round(share * n) + [WRONG] * (n - round(share * n)), **more)
    return [replace(result, gold_score=gold) for result in found]


def verdict(gate, *, candidate=0.8, base=0.5, **more):
    rows = compare_scores({"base": scored(base, **more), "sft": scored(candidate, **more)}, "base")
    return judge(rows, {"sums": Bounds(**gate)}, "base").verdicts[0]


@pytest.mark.parametrize(
    ("gate", "ships"),
    [
        ({"delta_low": 0.2}, True),
        ({"delta_low": 0.3}, False),  # the difference itself is 0.3, its lower end is not
        ({"delta_high": 0.4}, True),
        ({"delta_high": 0.3}, False),
        ({"score_low": 0.7}, True),
        ({"score_low": 0.8}, False),
        ({"score_high": 0.9}, True),
        ({"score_high": 0.8}, False),
        ({"delta_low": 0.2, "score_high": 0.8}, False),
    ],
)
def test_bounds_are_on_the_ends_of_the_intervals(gate, ships):
    found = verdict(gate)
    assert found.ships == ships
    assert found.ships == all(condition.holds for condition in found.conditions)
    assert [condition.bound for condition in found.conditions] == list(gate)


def test_a_bound_that_is_met_exactly_holds():
    end = verdict({"delta_low": 0.0}).conditions[0].value
    assert verdict({"delta_low": end}).ships
    assert verdict({"delta_high": end}).ships is False


def test_a_win_rate_is_that_of_the_task_whatever_metric_is_named():
    base, sft = scored(0.5, gold=0.0), scored(0.5, gold=1.0)
    rows = compare_scores({"base": base, "sft": sft}, "base")
    for key in ("sums", "sums verified_accuracy", "sums win_rate"):
        (condition,) = judge(rows, {key: Bounds(win_rate_low=0.9)}, "base").verdicts[0].conditions
        assert condition.holds
        assert (condition.metric, condition.value) == ("win_rate", rows[-1].low)
    assert not judge(rows, {"sums": Bounds(delta_low=0.0)}, "base").ships
    with pytest.raises(ValueError, match="`sums win_rate` has no `delta_low`"):
        judge(rows, {"sums win_rate": Bounds(delta_low=0.0)}, "base")


def test_a_price_in_bits_per_byte_is_bounded_from_above():
    text = {"metric": "bits_per_byte", "task": TEXT, "style": "none"}
    base, sft = results([2.0, 2.1, 2.2], **text), results([2.02, 2.13, 2.21], **text)
    rows = compare_scores({"base": base, "sft": sft}, "base")
    (holds,) = judge(rows, {"wikitext_bpb": Bounds(delta_high=0.5)}, "base").verdicts[0].conditions
    (fails,) = judge(rows, {TEXT: Bounds(delta_high=0.0)}, "base").verdicts[0].conditions
    assert (holds.holds, fails.holds) == (True, False)
    assert fails.reason == (
        f"{TEXT} bits_per_byte: the upper end of the difference, {fails.value:.4g}, is above 0"
    )


def test_a_key_without_a_style_means_each_models_best_and_with_one_that_one():
    few = {"style": "few-shot"}
    rows = compare_scores(
        {"base": scored(0.5), "sft": scored(0.6) + scored(0.9, **few)},
        "base",
    )
    (best,) = judge(rows, {"sums": Bounds(score_low=0.8)}, "base").verdicts[0].conditions
    assert (best.holds, best.style) == (True, "few-shot")
    key = "sums verified_accuracy zero-shot"
    (own,) = judge(rows, {key: Bounds(score_low=0.8)}, "base").verdicts[0].conditions
    assert (own.holds, own.style) == (False, "zero-shot")


def test_every_candidate_has_a_verdict_and_all_must_ship():
    rows = compare_scores({"base": scored(0.5), "a": scored(0.9), "b": scored(0.5)}, "base")
    found = judge(rows, {"sums": Bounds(delta_low=0.1)}, "base")
    assert [(each.model, each.ships) for each in found.verdicts] == [("a", True), ("b", False)]
    assert found.ships is False
    assert judge(rows, {"sums": Bounds(score_low=0.3)}, "base").ships


@pytest.mark.parametrize(
    ("candidate", "n", "limit", "ships"),
    [
        (0.7, 200, 0.05, True),
        (0.46, 200, 0.05, True),  # within chance of none
        (0.46, 10_000, 0.05, True),  # a clear loss of 0.04
        (0.46, 10_000, 0.03, False),
        (0.3, 200, 0.05, False),
    ],
)
def test_a_clear_loss_is_one_beyond_chance_and_beyond_the_bound(candidate, n, limit, ships):
    found = verdict({"clear_loss": limit}, candidate=candidate, n=n)
    assert found.ships == ships
    assert ("is more than" in found.conditions[0].reason) == (not ships)


def test_a_clear_loss_of_a_price_is_a_rise():
    text = {"metric": "bits_per_byte", "task": TEXT, "style": "none"}
    base, sft = results([2.0, 2.1, 2.2], **text), results([2.4, 2.52, 2.61], **text)
    rows = compare_scores({"base": base, "up": sft}, "base")
    assert not judge(rows, {"wikitext_bpb": Bounds(clear_loss=0.1)}, "base").ships
    assert judge(rows, {"wikitext_bpb": Bounds(clear_loss=0.5)}, "base").ships
    rows = compare_scores({"base": sft, "down": base}, "base")
    assert judge(rows, {"wikitext_bpb": Bounds(clear_loss=0.0)}, "base").ships


def test_all_names_each_task_and_no_text():
    text = results([2.0, 2.1, 2.2], metric="bits_per_byte", task=TEXT, style="none")
    # Documents of a task are a text of its name.
    text += [replace(result, task="facts") for result in text]
    models = {
        model: scored(share) + scored(0.9 - share, task="facts") + text
        for model, share in (("base", 0.6), ("sft", 0.3))
    }
    (found,) = judge(
        compare_scores(models, "base"), {"all": Bounds(clear_loss=0.05)}, "base"
    ).verdicts
    assert [(each.key, each.holds) for each in found.conditions] == [
        ("sums", False),
        ("facts", True),
    ]
    with pytest.raises(ValueError, match="`all` names every task, and none is measured"):
        judge(
            compare_scores({"base": text, "sft": text}, "base"),
            {"all": Bounds(clear_loss=0)},
            "base",
        )


def test_what_was_not_measured_does_not_hold():
    rows = compare_scores({"base": results([None, None]), "sft": results([1.0, 1.0])}, "base")
    (condition,) = judge(rows, {"sums": Bounds(delta_low=-1.0)}, "base").verdicts[0].conditions
    assert (condition.holds, condition.value) == (False, None)
    assert "the difference has no interval" in condition.reason
    with pytest.raises(ValueError, match="names sums win_rate, which was not measured"):
        judge(rows, {"sums": Bounds(win_rate_low=0.5)}, "base")


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("arithmetic", Named("arithmetic", "verified_accuracy")),
        ("arithmetic choice_accuracy", Named("arithmetic", "choice_accuracy")),
        (
            "arithmetic verified_accuracy few-shot 3",
            Named("arithmetic", "verified_accuracy", "few-shot", 3),
        ),
        (
            "arithmetic(digits=3, sign=true)",
            Named("arithmetic(digits=3, sign=true)", "verified_accuracy"),
        ),
        ("hellaswag", Named("hellaswag", "acc")),
        ("mine anything", Named("mine", "anything")),
        (TEXT, Named(TEXT, "bits_per_byte")),
        ("wikitext_bpb", Named(TEXT, "bits_per_byte")),
    ],
)
def test_a_key_names_a_task_then_a_metric_then_a_style(key, named):
    assert resolve(key, KNOWN) == named


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "arithmetik",
            "nothing that is measured is called `arithmetik`; did you mean `arithmetic`",
        ),
        ("", "nothing that is measured is called ``"),
        ("arithmetic verified", "`arithmetic` has no metric `verified`; .*it has choice_accuracy"),
        ("arithmetic verified_accuracy zero", "`zero` is not a style; styles are zero-shot"),
        ("arithmetic win_rate few-shot x", "is not of the form `task metric style shots`"),
        ("wikitext", "nothing that is measured is called `wikitext`"),
    ],
)
def test_a_key_that_names_nothing_is_refused_with_what_there_is(key, words):
    with pytest.raises(ValueError, match=words):
        resolve(key, KNOWN)


def test_two_texts_of_one_name_have_to_be_told_apart():
    both = {"a/wikitext.txt": ["bits_per_byte"], "b/wikitext.txt": ["bits_per_byte"]}
    with pytest.raises(ValueError, match=r"could be `a/wikitext\.txt` and `b/wikitext\.txt`"):
        resolve("wikitext_bpb", both)
    assert resolve("a/wikitext.txt", both).task == "a/wikitext.txt"
