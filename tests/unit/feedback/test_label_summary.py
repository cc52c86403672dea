"""The figures at a labeller's end, against ones that are counted by hand."""

import re
from typing import Any

import pytest

from eval.statistics.intervals import blaker
from pipeline.feedback.decisions import Decision
from pipeline.feedback.pairs import pair_key
from pipeline.feedback.summary import summary_lines
from pipeline.feedback.votes import Votes
from tests.unit.feedback.test_label_record import decision


def shown(number: int, verdict: Any, *, turned: bool = False, showing: Any = 1) -> Decision:
    """Return a decision between `a` and a longer `bb`; turned: `bb` stands first."""
    first, second = ("bb", "a") if turned else ("a", "bb")
    changes = {"first": first, "second": second, "seconds": float(number)}
    return decision(number, verdict, showing, **changes)


def figure(lines: list[str], words: str) -> tuple[float, float, float]:
    """Return the first figure of the line with some words, and its interval."""
    (line,) = [line for line in lines if words in line]
    found = re.search(r"(\d\.\d\d) \[(\d\.\d\d), (\d\.\d\d)\]", line)
    assert found is not None, line
    return float(found[1]), float(found[2]), float(found[3])


def test_without_a_decision_there_is_one_line() -> None:
    assert summary_lines([]) == ["no pair is decided yet"]


def test_decisions_are_counted_once_however_often_a_pair_came() -> None:
    decisions = [shown(0, "first"), shown(1, "tie"), shown(2, "skip"), shown(3, "second")]
    line = summary_lines([*decisions, shown(0, "second", turned=True, showing=2)])[0]
    assert line.startswith("4 pairs decided: 2 preferences, 1 tie, 1 skipped; 1 s each")


def test_a_labeller_agrees_with_themselves_who_prefers_the_response_and_not_the_place() -> None:
    first = [shown(n, "first") for n in range(10)]
    steady = [shown(n, "second", turned=True, showing=2) for n in range(10)]
    placed = [shown(n, "first", turned=True, showing=2) for n in range(10)]
    assert figure(summary_lines([*first, *steady]), "with oneself")[0] == 1.0
    rate, low, high = figure(summary_lines([*first, *placed]), "with oneself")
    assert (rate, low, high < 0.35) == (0.0, 0.0, True)
    mixed = [*steady[:5], *placed[5:8], shown(8, "tie", showing=2), shown(9, "skip", showing=2)]
    lines = summary_lines([*first, *mixed])
    assert "5 pairs of 9 decided alike" in lines[1]
    assert figure(lines, "with oneself")[0] == pytest.approx(5 / 9, abs=0.005)


def test_agreement_by_coin_has_a_kappa_near_nought() -> None:
    first = [shown(n, "first" if n % 2 else "second") for n in range(40)]
    again = [shown(n, "first" if n % 4 < 2 else "second", showing=2) for n in range(40)]
    (line,) = [line for line in summary_lines([*first, *again]) if "oneself" in line]
    assert "0.50 [" in line
    assert line.endswith("kappa 0.00")


def test_a_habit_of_place_and_of_length_is_shown() -> None:
    decisions = [shown(n, "first", turned=n % 2 == 0) for n in range(30)]
    lines = summary_lines(decisions)
    low = pytest.approx(blaker(30, 30).low, abs=0.005)
    assert figure(lines, "shown first") == (1.0, low, 1.0)
    assert figure(lines, "longer response")[0] == 0.5


def test_a_judge_is_held_against_preferences_its_ties_counting_half() -> None:
    decisions: list[Decision] = []
    scores, pairs, thumbs = Votes("scores"), Votes("pairs"), Votes("thumbs")
    for number, verdict in enumerate(("first", "second", "first", "second", "tie", "skip")):
        one = shown(number, verdict)
        question = f'{{"chat_template_kwargs": null, "prompt": "{one.prompt}", '
        question += '"reference": null, "system": null, "tools": null}'
        question = question.replace("é", "\\u00e9")
        key = pair_key(question, "a", "bb")
        decisions.append(one.model_copy(update={"pair": key}))
        score = {"a": 1.0, "bb": 0.0} if number != 3 else {"a": 0.5, "bb": 0.5}
        for text, value in score.items():
            scores.take({"score": value}, question, [text])
            thumbs.take({"label": value > 0}, question, [text])
        pairs.take({}, question, ["bb", "a"])
    lines = summary_lines(decisions, [scores, pairs, thumbs])
    # `a` is preferred in pairs 0 and 2: the scores are right on two, wrong on one, tied on one.
    (by_scores,) = [line for line in lines if "`scores`" in line]
    assert "on 4 preferences, its 1 tie counting half: 0.62 [" in by_scores
    assert figure(lines, "`pairs` on 4 preferences")[0] == 0.5
    assert figure(lines, "`thumbs` on 3 preferences")[0] == pytest.approx(2 / 3, abs=0.005)


def test_a_judge_that_said_nothing_of_these_pairs_is_not_named() -> None:
    votes = Votes("other")
    votes.take({"score": 1.0}, "another prompt", ["a"])
    assert not [line for line in summary_lines([shown(0, "first")], [votes]) if "other" in line]
